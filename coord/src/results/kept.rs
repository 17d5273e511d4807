//! A result as it lies in the store. Pure.

use hg_proto::v1::{Output, Task, TaskResult};
use hg_proto::wire::blob::{BlobError, Incoming};
use hg_proto::wire::digest::Digest;
use hg_proto::wire::task_key;

/// What a worker made of a task. Its encoding is the body of an entry.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Kept {
    /// The task's key, 32 bytes, of which the entry's name is but half.
    #[prost(bytes = "vec", tag = "1")]
    pub key: Vec<u8>,
    /// What the compiler said.
    #[prost(message, optional, tag = "2")]
    pub result: Option<TaskResult>,
    /// Contents of the result's outputs, in their order, as they travelled.
    #[prost(bytes = "vec", repeated, tag = "3")]
    pub outputs: Vec<Vec<u8>>,
    /// Whose it is.
    #[prost(message, optional, tag = "4")]
    pub maker: Option<Maker>,
    /// Milliseconds since the Unix epoch, when it ended.
    #[prost(uint64, tag = "5")]
    pub made_unix_ms: u64,
}

/// The worker that made it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Maker {
    /// Who holds its token.
    #[prost(string, tag = "1")]
    pub holder: String,
    /// Its own name.
    #[prost(string, tag = "2")]
    pub name: String,
    /// As it was listed then.
    #[prost(string, tag = "3")]
    pub label: String,
    /// What held the compile: always "full".
    #[prost(string, tag = "4")]
    pub sandbox: String,
    /// The toolchain that compiled, 32 bytes.
    #[prost(bytes = "vec", tag = "5")]
    pub toolchain: Vec<u8>,
}

impl Kept {
    /// Whether it is what was kept under `key`, and whole.
    pub fn is_of(&self, key: &Digest) -> bool {
        let outputs = self.result.iter().flat_map(|result| &result.outputs);
        let sizes = outputs.map(|output| output.encoded_size);
        self.key == key.as_bytes()
            && self.result.is_some()
            && self.maker.is_some()
            && sizes.eq(self.outputs.iter().map(|bytes| bytes.len() as u64))
    }

    /// Whether all outputs hold what the worker said that they do. What does not is the
    /// matter of one client, which notices; kept, it would be everybody's.
    pub fn holds(&self) -> bool {
        let outputs = self.result.iter().flat_map(|result| &result.outputs);
        let mut outputs = outputs.zip(&self.outputs);
        outputs.all(|(output, bytes)| is_content(output, bytes).unwrap_or(false))
    }
}

fn is_content(output: &Output, bytes: &[u8]) -> Result<bool, BlobError> {
    let mut content = Incoming::new(output.encoding()).map_err(BlobError::Io)?;
    content.push(bytes, output.size, &mut std::io::sink())?;
    Ok(content.size() == output.size && content.digest()?.as_bytes()[..] == output.digest)
}

/// Under what the result of `task` is kept. `None`: it is no compile.
pub fn key(task: &Task) -> Option<Digest> {
    task.shipment.is_none().then(|| task_key::of(task))
}

/// Digest of all that a compile made; `None`: it failed.
pub fn made(result: &TaskResult) -> Option<Digest> {
    if (result.exit_code, result.signal) != (0, 0) || result.outputs.is_empty() {
        return None;
    }
    let mut outputs: Vec<_> = result.outputs.iter().collect();
    outputs.sort_by(|one, other| one.path.cmp(&other.path));
    let mut all = Vec::new();
    for output in outputs {
        all.extend_from_slice(&(output.path.len() as u64).to_le_bytes());
        all.extend_from_slice(&output.path);
        all.extend_from_slice(&output.digest);
    }
    Some(Digest::of(&all))
}

/// Whether `result` is one that stands for a compile, of the toolchain that was asked for.
pub fn is_good(result: &TaskResult) -> bool {
    result.exit_code == 0
        && result.signal == 0
        && !result.truncated
        && result.unexpected.is_empty()
        && result.equal.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hg_proto::v1::{Encoding, Shipment};

    fn kept() -> Kept {
        let output = Output {
            path: b"/w/a.o".to_vec(),
            encoded_size: 3,
            ..Output::default()
        };
        let result = TaskResult {
            outputs: vec![output],
            ..TaskResult::default()
        };
        Kept {
            key: Digest::of(b"key").as_bytes().to_vec(),
            result: Some(result),
            outputs: vec![b"abc".to_vec()],
            maker: Some(Maker::default()),
            made_unix_ms: 1,
        }
    }

    #[test]
    fn another_key_or_size_is_another_result() {
        let key = Digest::of(b"key");
        assert!(kept().is_of(&key));
        assert!(!kept().is_of(&Digest::of(b"other")));
        let changes: [fn(&mut Kept); 4] = [
            |kept| kept.outputs[0].push(0),
            |kept| drop(kept.outputs.pop()),
            |kept| kept.result = None,
            |kept| kept.maker = None,
        ];
        for change in changes {
            let mut other = kept();
            change(&mut other);
            assert!(!other.is_of(&key));
        }
    }

    #[test]
    fn what_a_worker_said_wrongly_of_an_output_does_not_hold() {
        let content = b"an object";
        let travels = zstd_frame(content);
        let whole = |encoding: Encoding, bytes: &[u8]| {
            let mut kept = kept();
            let result = kept.result.get_or_insert_default();
            result.outputs[0] = Output {
                digest: Digest::of(content).as_bytes().to_vec(),
                size: content.len() as u64,
                encoding: encoding.into(),
                encoded_size: bytes.len() as u64,
                ..Output::default()
            };
            kept.outputs = vec![bytes.to_vec()];
            kept
        };
        assert!(whole(Encoding::Identity, content).holds());
        assert!(whole(Encoding::Zstd, &travels).holds());
        assert!(!whole(Encoding::Identity, b"no object").holds());
        assert!(!whole(Encoding::Identity, b"an objec").holds());
        assert!(!whole(Encoding::Zstd, content).holds());
        assert!(!whole(Encoding::Zstd, &travels[..travels.len() - 1]).holds());
    }

    /// A zstd frame of one raw block (RFC 8878, 3.1.1).
    fn zstd_frame(content: &[u8]) -> Vec<u8> {
        let single_segment = [0x28, 0xb5, 0x2f, 0xfd, 0x20, content.len() as u8];
        let last_raw = (1 | (content.len() as u32) << 3).to_le_bytes();
        [&single_segment[..], &last_raw[..3], content].concat()
    }

    #[test]
    fn what_went_wrong_or_was_made_by_another_toolchain_is_not_good() {
        assert!(is_good(&TaskResult::default()));
        let changes: [fn(&mut TaskResult); 5] = [
            |result| result.exit_code = 1,
            |result| result.signal = 9,
            |result| result.truncated = true,
            |result| result.unexpected.push(b"x".to_vec()),
            |result| result.equal = vec![1; 32],
        ];
        for change in changes {
            let mut result = TaskResult::default();
            change(&mut result);
            assert!(!is_good(&result), "{result:?}");
        }
    }

    #[test]
    fn a_toolchain_that_is_shipped_has_no_result() {
        assert!(key(&Task::default()).is_some());
        let shipment = Task {
            shipment: Some(Shipment::default()),
            ..Task::default()
        };
        assert_eq!(key(&shipment), None);
    }
}
