//! A coordinator played by the test: one call of one client, byte by byte.

use std::io::{self, Read, Write};

use hg_proto::v1::{self, SubmitResponse, submit_response::Kind};
use prost::Message;

use crate::h2::{
    ACK, DATA, END_HEADERS, END_STREAM, HEADERS, PREFACE, SETTINGS, frame, header, message,
};

/// The client's only stream.
pub const CALL: u32 = 1;

/// Takes the client's first words and says ours.
///
/// # Errors
/// The client has left.
pub fn meet(stream: &mut (impl Read + Write)) -> io::Result<()> {
    stream.read_exact(&mut [0; PREFACE.len()])?;
    stream.write_all(&frame(SETTINGS, 0, 0, &[]))?;
    stream.write_all(&frame(SETTINGS, ACK, 0, &[]))
}

/// The first message of the call that begins with a task.
///
/// # Errors
/// The client has left.
pub fn task(stream: &mut (impl Read + Write)) -> io::Result<v1::Task> {
    let mut body = Vec::new();
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head)?;
        let len = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; len];
        stream.read_exact(&mut payload)?;
        if head[3] != DATA {
            continue;
        }
        body.extend_from_slice(&payload);
        let Ok(request) = v1::SubmitRequest::decode(body.get(5..).unwrap_or_default()) else {
            continue;
        };
        if let Some(v1::submit_request::Kind::Task(task)) = request.kind {
            return Ok(task);
        }
    }
}

/// Status 200, the type of gRPC, and `more` headers.
///
/// # Errors
/// The client has left.
pub fn head(stream: &mut impl Write, more: &[(&str, &str)]) -> io::Result<()> {
    // 0x88: ":status: 200" of the static table.
    let mut block = vec![0x88];
    block.extend(header("content-type", "application/grpc"));
    for (name, value) in more {
        block.extend(header(name, value));
    }
    stream.write_all(&frame(HEADERS, END_HEADERS, CALL, &block))
}

/// Takes the client's call and answers with status 200 and the type of gRPC.
///
/// # Errors
/// The client has left.
pub fn answer(stream: &mut (impl Read + Write)) -> io::Result<v1::Task> {
    meet(stream)?;
    let task = task(stream)?;
    head(stream, &[])?;
    Ok(task)
}

/// Says something of the task.
///
/// # Errors
/// The client has left.
pub fn say(stream: &mut impl Write, kind: Kind) -> io::Result<()> {
    let response = SubmitResponse { kind: Some(kind) };
    let body = message(&response.encode_to_vec());
    stream.write_all(&frame(DATA, 0, CALL, &body))?;
    stream.flush()
}

/// The task has a number.
pub fn accepted() -> Kind {
    Kind::Accepted(v1::Accepted {
        task_id: 1,
        ..v1::Accepted::default()
    })
}

/// An attempt has begun at `worker`.
pub fn started(attempt: u32, worker: &str) -> Kind {
    Kind::Started(v1::Started {
        attempt,
        worker: worker.into(),
        queue_ms: 0,
        ..v1::Started::default()
    })
}

/// Ends the call with a gRPC status.
///
/// # Errors
/// The client has left.
pub fn end(stream: &mut impl Write, status: &str) -> io::Result<()> {
    let trailers = header("grpc-status", status);
    let flags = END_STREAM | END_HEADERS;
    stream.write_all(&frame(HEADERS, flags, CALL, &trailers))?;
    stream.flush()
}
