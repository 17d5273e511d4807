//! Whether blobs arrive as announced: inputs from a client, outputs from a
//! worker. Counts bytes and never holds them.

use std::collections::HashSet;

use hg_proto::v1::Task;
use hg_proto::wire::limits::{CHUNK_BYTES_MAX, OUTPUT_BYTES_MAX, OUTPUT_WINDOW_BYTES};

/// What to do with a chunk of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Pass it on; `complete`: it was the last one of the last input.
    Relay {
        /// Nothing more is needed.
        complete: bool,
    },
    /// Drop it: its content went already, under another path.
    Drop,
}

fn check_chunk(len: usize, last: bool) -> Result<(), String> {
    if len > CHUNK_BYTES_MAX {
        return Err(format!("chunk of {len} bytes, at most {CHUNK_BYTES_MAX}"));
    }
    if len == 0 && !last {
        return Err("empty chunk that is not the last".into());
    }
    Ok(())
}

/// The inputs of one attempt.
#[derive(Debug)]
pub struct Inputs {
    /// Per input: its digest and the bytes that are still to come.
    inputs: Vec<(Vec<u8>, u64)>,
    /// Digests that the worker still lacks.
    needed: HashSet<Vec<u8>>,
    asked: HashSet<Vec<u8>>,
    current: Option<usize>,
}

impl Inputs {
    /// What `task` has and the worker lacks.
    ///
    /// # Errors
    /// The worker asks for what the task does not have, or twice for the same.
    pub fn new(task: &Task, digests: &[Vec<u8>]) -> Result<Self, String> {
        let asked: HashSet<Vec<u8>> = digests.iter().cloned().collect();
        let has: HashSet<&[u8]> = task.inputs.iter().map(|input| &input.digest[..]).collect();
        if asked.len() != digests.len() || !digests.iter().all(|digest| has.contains(&digest[..])) {
            return Err("need of a digest that is not in the task, or twice".into());
        }
        let inputs = task
            .inputs
            .iter()
            .map(|i| (i.digest.clone(), i.encoded_size))
            .collect();
        Ok(Inputs {
            inputs,
            needed: asked.clone(),
            asked,
            current: None,
        })
    }

    /// A chunk of `len` bytes came for input number `input`.
    ///
    /// # Errors
    /// What the client did wrong.
    pub fn chunk(&mut self, input: u32, len: usize, last: bool) -> Result<Verdict, String> {
        check_chunk(len, last)?;
        let index = input as usize;
        let (digest, left) = self.inputs.get_mut(index).ok_or("no such input")?;
        if !self.asked.contains(digest) {
            return Err("an input that nobody asked for".into());
        }
        if self.current.is_some_and(|current| current != index) {
            return Err("an input before the end of another".into());
        }
        if !self.needed.contains(digest) {
            return Ok(Verdict::Drop);
        }
        *left = left
            .checked_sub(len as u64)
            .ok_or("an input longer than announced")?;
        self.current = (!last).then_some(index);
        if last {
            if *left > 0 {
                return Err("an input shorter than announced".into());
            }
            self.needed.remove(digest);
        }
        Ok(Verdict::Relay {
            complete: self.needed.is_empty(),
        })
    }

    /// Whether all inputs that the worker lacks were sent.
    pub fn is_complete(&self) -> bool {
        self.needed.is_empty()
    }
}

/// The outputs of one attempt.
#[derive(Debug)]
pub struct Outputs {
    /// Per output: bytes so far, and whether that was all.
    outputs: Vec<(u64, bool)>,
    current: Option<usize>,
    /// Bytes that the worker may send before it gets credit.
    window: u32,
    total: u64,
}

impl Outputs {
    /// Outputs of an attempt of which nothing came yet.
    pub fn new(task: &Task) -> Self {
        Outputs {
            outputs: vec![(0, false); task.outputs.len()],
            current: None,
            window: OUTPUT_WINDOW_BYTES,
            total: 0,
        }
    }

    /// A chunk of `len` bytes came for output number `output`.
    ///
    /// # Errors
    /// What the worker did wrong.
    pub fn chunk(&mut self, output: u32, len: usize, last: bool) -> Result<(), String> {
        check_chunk(len, last)?;
        let index = output as usize;
        let (bytes, ended) = self.outputs.get_mut(index).ok_or("no such output")?;
        if *ended {
            return Err("an output beyond its end".into());
        }
        if self.current.is_some_and(|current| current != index) {
            return Err("an output before the end of another".into());
        }
        let len = len as u32;
        self.window = self
            .window
            .checked_sub(len)
            .ok_or("output beyond the window")?;
        self.total += u64::from(len);
        if self.total > OUTPUT_BYTES_MAX {
            return Err("output beyond the limit".into());
        }
        *bytes += u64::from(len);
        *ended = last;
        self.current = (!last).then_some(index);
        Ok(())
    }

    /// The client has taken `bytes`.
    pub fn credit(&mut self, bytes: u32) {
        self.window = self.window.saturating_add(bytes).min(OUTPUT_WINDOW_BYTES);
    }

    /// Whether any output has begun to come.
    pub fn begun(&self) -> bool {
        self.outputs
            .iter()
            .any(|(bytes, ended)| *bytes > 0 || *ended)
    }

    /// Bytes of an output that came to its end.
    pub fn received(&self, index: usize) -> Option<u64> {
        self.outputs
            .get(index)
            .filter(|(_, ended)| *ended)
            .map(|(bytes, _)| *bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hg_proto::v1::Input;

    fn task() -> Task {
        let input = |digest: u8, size| Input {
            digest: vec![digest; 32],
            size,
            encoded_size: size,
            ..Input::default()
        };
        Task {
            inputs: vec![input(1, 5), input(2, 0), input(1, 5), input(3, 9)],
            outputs: vec![b"a".to_vec(), b"b".to_vec()],
            ..Task::default()
        }
    }

    #[test]
    fn inputs_come_in_order_and_as_long_as_announced() {
        let need = [vec![1; 32], vec![2; 32]];
        let fresh = || Inputs::new(&task(), &need).unwrap();
        let mut inputs = fresh();
        assert_eq!(
            inputs.chunk(0, 3, false),
            Ok(Verdict::Relay { complete: false })
        );
        assert!(inputs.chunk(1, 0, true).is_err());
        assert_eq!(
            inputs.chunk(0, 2, true),
            Ok(Verdict::Relay { complete: false })
        );
        assert_eq!(inputs.chunk(2, 5, true), Ok(Verdict::Drop));
        assert!(!inputs.is_complete());
        assert_eq!(
            inputs.chunk(1, 0, true),
            Ok(Verdict::Relay { complete: true })
        );
        assert!(fresh().chunk(0, 6, false).is_err(), "too long");
        assert!(fresh().chunk(0, 4, true).is_err(), "too short");
        assert!(fresh().chunk(0, 0, false).is_err(), "empty");
        assert!(fresh().chunk(3, 9, true).is_err(), "not asked for");
        assert!(fresh().chunk(9, 1, true).is_err(), "no such input");
        assert!(
            fresh().chunk(0, CHUNK_BYTES_MAX + 1, true).is_err(),
            "large chunk"
        );
    }

    #[test]
    fn needs_are_checked() {
        assert!(Inputs::new(&task(), &[vec![9; 32]]).is_err());
        assert!(Inputs::new(&task(), &[vec![1; 32], vec![1; 32]]).is_err());
        assert!(Inputs::new(&task(), &[]).unwrap().is_complete());
    }

    #[test]
    fn of_thousands_of_inputs_a_few_are_needed() {
        let number = |n: u32| [&n.to_be_bytes()[..], &[0; 28]].concat();
        let inputs = (0..4_000).map(|n| Input {
            digest: number(n),
            size: 1,
            encoded_size: 1,
            ..Input::default()
        });
        let task = Task {
            inputs: inputs.collect(),
            ..Task::default()
        };
        let mut inputs = Inputs::new(&task, &[number(3_999), number(5)]).unwrap();
        assert!(inputs.chunk(6, 1, true).is_err());
        let first = inputs.chunk(3_999, 1, true);
        assert_eq!(first, Ok(Verdict::Relay { complete: false }));
        let last = inputs.chunk(5, 1, true);
        assert_eq!(last, Ok(Verdict::Relay { complete: true }));
        let all: Vec<_> = (0..4_000).map(number).collect();
        assert!(!Inputs::new(&task, &all).unwrap().is_complete());
    }

    #[test]
    fn outputs_keep_to_their_window() {
        let mut outputs = Outputs::new(&task());
        for _ in 0..OUTPUT_WINDOW_BYTES as usize / CHUNK_BYTES_MAX {
            outputs.chunk(0, CHUNK_BYTES_MAX, false).unwrap();
        }
        assert!(outputs.chunk(0, 1, false).is_err());
        outputs.credit(1);
        outputs.chunk(0, 1, true).unwrap();
        assert_eq!(
            outputs.received(0),
            Some(u64::from(OUTPUT_WINDOW_BYTES) + 1)
        );
        assert_eq!(outputs.received(1), None);
    }

    #[test]
    fn outputs_do_not_mix() {
        let mut outputs = Outputs::new(&task());
        outputs.chunk(0, 1, false).unwrap();
        assert!(outputs.chunk(1, 1, true).is_err());
        outputs.chunk(0, 1, true).unwrap();
        assert!(outputs.chunk(0, 1, true).is_err());
        outputs.chunk(1, 0, true).unwrap();
        assert!(outputs.chunk(2, 1, true).is_err());
    }
}
