//! The outputs of a task while they pass through, for the store. Bounded: what is too large
//! is passed on and not kept.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::bounds::{RESULT_BYTES_MAX, RESULTS_BYTES_HELD_MAX};

/// Bytes of all drafts.
static HELD_BYTES: AtomicUsize = AtomicUsize::new(0);

/// What came of one attempt's outputs.
#[derive(Debug, Default)]
pub struct Draft {
    attempt: u32,
    /// The output's index in the task's, and its bytes, in the order in which they came.
    outputs: Vec<(u32, Vec<u8>)>,
    bytes: usize,
    /// It is not kept: too large, or one too many.
    over: bool,
}

impl Draft {
    /// A chunk of output number `output` came of attempt number `attempt`; what came of
    /// another one is void.
    pub fn add(&mut self, attempt: u32, output: u32, data: &[u8]) {
        if attempt != self.attempt {
            self.clear();
            self.attempt = attempt;
        }
        if self.over || !self.reserve(data.len()) {
            return self.give_up();
        }
        match self.outputs.last_mut() {
            Some((last, bytes)) if *last == output => bytes.extend_from_slice(data),
            _ => self.outputs.push((output, data.to_vec())),
        }
    }

    fn reserve(&mut self, bytes: usize) -> bool {
        let held = HELD_BYTES.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.bytes += bytes;
        self.bytes <= RESULT_BYTES_MAX && held <= RESULTS_BYTES_HELD_MAX
    }

    fn give_up(&mut self) {
        self.clear();
        self.over = true;
    }

    fn clear(&mut self) {
        HELD_BYTES.fetch_sub(self.bytes, Ordering::Relaxed);
        self.bytes = 0;
        self.over = false;
        self.outputs = Vec::new();
    }

    /// All outputs of attempt number `attempt`, sorted by their indices in the task. `None`:
    /// they are not kept.
    pub fn take(&mut self, attempt: u32) -> Option<Vec<Vec<u8>>> {
        if self.over || (attempt != self.attempt && !self.outputs.is_empty()) {
            return None;
        }
        let mut outputs = std::mem::take(&mut self.outputs);
        self.clear();
        outputs.sort_by_key(|(output, _)| *output);
        Some(outputs.into_iter().map(|(_, bytes)| bytes).collect())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_of_the_last_attempt_alone() {
        let mut draft = Draft::default();
        draft.add(1, 0, b"old");
        draft.add(2, 1, b"b");
        draft.add(2, 1, b"c");
        draft.add(2, 0, b"a");
        assert_eq!(draft.take(2), Some(vec![b"a".to_vec(), b"bc".to_vec()]));
        draft.add(3, 0, b"x");
        assert_eq!(draft.take(2), None, "of another attempt");
    }

    #[test]
    fn what_is_too_large_is_not_kept() {
        let mut draft = Draft::default();
        let chunk = vec![0; 1 << 20];
        for _ in 0..=RESULT_BYTES_MAX / chunk.len() {
            draft.add(1, 0, &chunk);
        }
        draft.add(1, 1, b"x");
        assert_eq!(draft.take(1), None);
        // Another attempt may be smaller.
        draft.add(2, 0, b"x");
        assert_eq!(draft.take(2), Some(vec![b"x".to_vec()]));
    }
}
