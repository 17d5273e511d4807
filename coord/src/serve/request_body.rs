//! The bodies of gRPC requests as they come. What is held of messages that have begun and
//! are not whole is bounded: in bytes for each holder of a token, and in time.
//!
//! tonic takes from HTTP/2's flow control whatever comes until a message is whole, and
//! waits for that for ever: with a thousand streams on one connection, each of them a byte
//! short of its largest message, that would be a GiB.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hg_proto::wire::limits::GRPC_MESSAGE_BYTES_MAX;
use hyper::Request;
use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::Status;
use tonic::server::NamedService;
use tower::Service;

use crate::bounds::{INPUT_MESSAGE_BYTES_MAX, MESSAGE_MS_MAX, QUESTION_BYTES_MAX};
use crate::door::shares::{Share, Shares};
use crate::serve::accept::Peer;
use crate::trust::doorkeeper::Admitted;

/// Bytes before each message: whether it is compressed, and its length (gRPC over HTTP2,
/// "Length-Prefixed-Message").
const HEAD_BYTES: usize = 5;
/// The method of which the first message is a task, and the others are inputs.
const SUBMIT: &str = "/SubmitTask";

/// Whose share of what is not whole a request takes: the holder of a token, or where
/// nobody is asked for one, whoever is at that address.
pub fn holder(peer: &Peer, admitted: Option<&Admitted>) -> String {
    match admitted.map_or("", Admitted::name) {
        "" => peer.address.ip().to_string(),
        name => name.to_owned(),
    }
}

/// A service whose requests have bounded bodies.
#[derive(Clone)]
pub struct Bounded<S> {
    service: S,
    partial: Arc<Shares>,
}

impl<S> Bounded<S> {
    /// `partial`: bytes that holders may have in messages that are not whole.
    pub fn new(service: S, partial: Arc<Shares>) -> Self {
        Bounded { service, partial }
    }
}

impl<S: NamedService> NamedService for Bounded<S> {
    const NAME: &'static str = S::NAME;
}

impl<S: Service<Request<RequestBody>>> Service<Request<tonic::body::Body>> for Bounded<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: Request<tonic::body::Body>) -> Self::Future {
        let peer = request.extensions().get::<Peer>();
        let admitted = request.extensions().get::<Admitted>();
        let holder = peer.map_or_else(String::new, |peer| holder(peer, admitted));
        let share = self.partial.of(&holder);
        let (first_max, later_max) = match request.uri().path().ends_with(SUBMIT) {
            true => (GRPC_MESSAGE_BYTES_MAX, INPUT_MESSAGE_BYTES_MAX),
            false => (QUESTION_BYTES_MAX, QUESTION_BYTES_MAX),
        };
        let request = request.map(|body| RequestBody {
            body,
            messages: Messages::new(first_max, later_max),
            share,
            late: None,
        });
        self.service.call(request)
    }
}

/// Where a body is among its messages.
#[derive(Debug)]
struct Messages {
    head: [u8; HEAD_BYTES],
    /// Bytes of the message that has begun, its head included.
    begun: usize,
    /// Messages that were whole.
    whole: u64,
    max: usize,
    later_max: usize,
}

impl Messages {
    /// Of a body of which nothing came yet: bytes of its first message, and of each later
    /// one.
    fn new(first_max: usize, later_max: usize) -> Self {
        Messages {
            head: [0; HEAD_BYTES],
            begun: 0,
            whole: 0,
            max: first_max,
            later_max,
        }
    }

    /// `bytes` came.
    ///
    /// # Errors
    /// A message will be longer than it may be: so many bytes.
    fn pass(&mut self, mut bytes: &[u8]) -> Result<(), usize> {
        while !bytes.is_empty() {
            if self.begun < HEAD_BYTES {
                let taken = (HEAD_BYTES - self.begun).min(bytes.len());
                let (head, rest) = bytes.split_at(taken);
                self.head[self.begun..][..taken].copy_from_slice(head);
                self.begun += taken;
                bytes = rest;
                if self.begun < HEAD_BYTES {
                    break;
                }
            }
            let [_, a, b, c, d] = self.head;
            let len = u32::from_be_bytes([a, b, c, d]) as usize;
            if len > self.max {
                return Err(len);
            }
            let taken = (HEAD_BYTES + len - self.begun).min(bytes.len());
            self.begun += taken;
            bytes = &bytes[taken..];
            if self.begun == HEAD_BYTES + len {
                self.begun = 0;
                self.whole += 1;
                self.max = self.later_max;
            }
        }
        Ok(())
    }
}

/// A request's body; see the top of the file.
pub struct RequestBody {
    body: tonic::body::Body,
    messages: Messages,
    /// What its holder has for the message that has begun.
    share: Share,
    /// When that must be whole.
    late: Option<(Instant, Option<Pin<Box<Sleep>>>)>,
}

impl RequestBody {
    fn take(&mut self, bytes: &[u8]) -> Result<(), Status> {
        let before = self.messages.whole;
        let passed = self.messages.pass(bytes);
        passed.map_err(|len| {
            let max = self.messages.max;
            Status::out_of_range(format!("a message of {len} bytes, at most {max}"))
        })?;
        if self.messages.begun == 0 || self.messages.whole != before {
            self.late = None;
        }
        if self.messages.begun > 0 && self.late.is_none() {
            let late = Instant::now() + Duration::from_millis(MESSAGE_MS_MAX);
            self.late = Some((late, None));
        }
        if !self.share.set(self.messages.begun) {
            let why = "too many bytes of messages that are not whole, of one holder";
            return Err(Status::resource_exhausted(why));
        }
        Ok(())
    }

    /// Nothing came: whether it should have.
    fn poll_late(&mut self, context: &mut Context<'_>) -> Poll<Status> {
        let Some((late, sleep)) = &mut self.late else {
            return Poll::Pending;
        };
        // Most messages are whole before there is anything to wait for.
        let sleep = sleep.get_or_insert_with(|| Box::pin(sleep_until(*late)));
        let over = sleep.as_mut().poll(context);
        over.map(|()| Status::deadline_exceeded("a message has begun and does not end"))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) else {
            return this.poll_late(context).map(|why| Some(Err(why)));
        };
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
            && let Err(why) = this.take(data)
        {
            return Poll::Ready(Some(Err(why)));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(len: usize) -> Vec<u8> {
        let mut message = vec![0];
        message.extend_from_slice(&(len as u32).to_be_bytes());
        message.resize(HEAD_BYTES + len, 7);
        message
    }

    #[test]
    fn messages_are_followed_however_they_are_cut() {
        let bytes = [message(0), message(10), message(3), message(0)].concat();
        let ends = [HEAD_BYTES, 20, 28, 33];
        for size in 1..=bytes.len() {
            let mut messages = Messages::new(10, 10);
            let mut came = 0;
            for part in bytes.chunks(size) {
                messages.pass(part).unwrap();
                came += part.len();
                let whole = ends.iter().filter(|end| **end <= came).count();
                let begun = came - ends[..whole].last().copied().unwrap_or(0);
                let found = (messages.whole, messages.begun);
                assert_eq!(found, (whole as u64, begun), "{came} in parts of {size}");
            }
        }
    }

    #[test]
    fn the_first_message_may_be_longer_than_others() {
        let mut messages = Messages::new(10, 5);
        assert_eq!(messages.pass(&message(10)), Ok(()));
        assert_eq!(messages.pass(&message(5)), Ok(()));
        // Told by its head alone.
        assert_eq!(messages.pass(&message(6)[..HEAD_BYTES - 1]), Ok(()));
        assert_eq!(messages.pass(&[6]), Err(6));
        let mut messages = Messages::new(10, 5);
        assert_eq!(messages.pass(&message(11)[..HEAD_BYTES]), Err(11));
    }
}
