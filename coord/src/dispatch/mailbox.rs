//! Mailbox of a task: what its client has yet to be told. Bounded by the worker's output
//! window; written by whoever learns something, read by the client's stream.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hg_proto::v1::{Failure, Finished};
use hg_proto::wire::limits::CHUNK_BYTES_MAX;
use tokio::sync::Notify;

use crate::results::kept::Maker;
use crate::scheduling::jobs::AttemptStart;

/// One message to the client.
#[derive(Debug)]
pub enum Mail {
    /// An attempt began. What came from earlier ones is void, unless it runs
    /// beside them.
    Started {
        /// The attempt.
        start: AttemptStart,
        /// Its worker, as it is listed.
        label: String,
    },
    /// Another worker compiles it too, whose result goes to nobody: only what it lacks of
    /// inputs is the client's affair.
    Second(AttemptStart),
    /// An attempt takes too long only after so many milliseconds from now.
    Late {
        /// The attempt's number in its task.
        attempt: u32,
        /// Milliseconds from now after which the client shall find it late.
        late_ms: u64,
    },
    /// The worker lacks these inputs.
    Need {
        /// The attempt's number in its task.
        attempt: u32,
        /// The inputs' digests.
        digests: Vec<Vec<u8>>,
    },
    /// A part of an output.
    Output {
        /// The attempt's number in its task.
        attempt: u32,
        /// The output's index in `Task.outputs`.
        output: u32,
        /// The next bytes of the output, at most 64 KiB.
        data: Vec<u8>,
        /// The output ends with them.
        last: bool,
        /// Bytes of credit that taking it is worth.
        credit: u32,
    },
    /// The last message: the task's result, and whose it is if it may be kept for others.
    Finished(Box<Finished>, Option<Box<Maker>>),
    /// The last message: there will be no result.
    Failed(Failure),
}

#[derive(Debug, Default)]
struct MailboxState {
    mails: VecDeque<Mail>,
    /// Attempts that are not over; the first to send output is the only one left.
    attempts: Vec<u32>,
    ended: bool,
}

/// See the top of the file.
#[derive(Debug, Default)]
pub struct Mailbox {
    state: Mutex<MailboxState>,
    wake: Notify,
}

impl Mailbox {
    /// An empty mailbox.
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, MailboxState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a message. Those of an attempt that is over, or after the last one, are dropped.
    pub fn push(&self, mail: Mail) {
        let mut state = self.state();
        if state.ended {
            return;
        }
        match mail {
            Mail::Started { ref start, .. } => {
                if !start.hedge {
                    state.attempts.clear();
                    state
                        .mails
                        .retain(|old| matches!(old, Mail::Started { .. }));
                }
                state.attempts.push(start.number);
                state.mails.push_back(mail);
            }
            Mail::Second(ref start) => {
                state.attempts.push(start.number);
                state.mails.push_back(mail);
            }
            Mail::Need { attempt, .. } | Mail::Late { attempt, .. }
                if state.attempts.contains(&attempt) =>
            {
                state.mails.push_back(mail);
            }
            Mail::Output { attempt, .. } if state.attempts.contains(&attempt) => {
                state.attempts.retain(|other| *other == attempt);
                state.push_output(mail);
            }
            Mail::Late { .. } | Mail::Need { .. } | Mail::Output { .. } => return,
            Mail::Finished(..) => {
                state.ended = true;
                state.mails.push_back(mail);
            }
            Mail::Failed(_) => {
                state.ended = true;
                state
                    .mails
                    .retain(|old| matches!(old, Mail::Started { .. }));
                state.mails.push_back(mail);
            }
        }
        drop(state);
        self.wake.notify_one();
    }

    /// The next message, when there is one. One reader at a time; dropping the future loses
    /// nothing.
    pub async fn next(&self) -> Mail {
        loop {
            if let Some(mail) = self.state().mails.pop_front() {
                return mail;
            }
            self.wake.notified().await;
        }
    }
}

impl MailboxState {
    /// Small chunks of one output become one, so that a worker that sends
    /// single bytes costs no more than its window.
    fn push_output(&mut self, mail: Mail) {
        if let Mail::Output {
            output,
            data,
            last,
            credit,
            ..
        } = &mail
            && let Some(Mail::Output {
                output: old_output,
                data: old_data,
                last: old_last,
                credit: old_credit,
                ..
            }) = self.mails.back_mut()
            && old_output == output
            && !*old_last
            && old_data.len() + data.len() <= CHUNK_BYTES_MAX
        {
            old_data.extend_from_slice(data);
            *old_last = *last;
            *old_credit += credit;
            return;
        }
        self.mails.push_back(mail);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduling::id::{DispatchId, TaskId, WorkerId};

    fn started(attempt: u32) -> Mail {
        Mail::Started {
            start: AttemptStart {
                task: TaskId(1),
                worker: WorkerId(1),
                dispatch: DispatchId(u64::from(attempt)),
                number: attempt,
                hedge: false,
                queue_ms: 0,
                late_ms: 0,
                slower: false,
                peak_bytes: 0,
                left_ms: 1,
            },
            label: "w".into(),
        }
    }

    #[test]
    fn of_two_attempts_only_the_first_to_answer_is_heard() {
        let mailbox = Mailbox::new();
        mailbox.push(started(1));
        let mut second = started(2);
        if let Mail::Started { start, .. } = &mut second {
            start.hedge = true;
        }
        mailbox.push(second);
        let need = |attempt| Mail::Need {
            attempt,
            digests: Vec::new(),
        };
        mailbox.push(need(2));
        mailbox.push(output(1, 0, 3, false));
        mailbox.push(output(2, 0, 4, true));
        mailbox.push(need(2));
        mailbox.push(output(1, 0, 5, true));
        let attempts: Vec<(u32, usize)> = drain(&mailbox)
            .into_iter()
            .map(|mail| match mail {
                Mail::Started { start, .. } => (start.number, 0),
                Mail::Need { attempt, .. } => (attempt, 0),
                Mail::Output { attempt, data, .. } => (attempt, data.len()),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(attempts, [(1, 0), (2, 0), (2, 0), (1, 8)]);
    }

    fn output(attempt: u32, output: u32, len: usize, last: bool) -> Mail {
        let data = vec![0; len];
        Mail::Output {
            attempt,
            output,
            data,
            last,
            credit: len as u32,
        }
    }

    fn drain(mailbox: &Mailbox) -> Vec<Mail> {
        mailbox.state().mails.drain(..).collect()
    }

    #[test]
    fn single_bytes_are_put_together() {
        let mailbox = Mailbox::new();
        mailbox.push(started(1));
        for _ in 0..CHUNK_BYTES_MAX + 10 {
            mailbox.push(output(1, 0, 1, false));
        }
        mailbox.push(output(1, 0, 0, true));
        mailbox.push(output(1, 1, 5, true));
        let sizes: Vec<(u32, usize, bool, u32)> = drain(&mailbox)
            .into_iter()
            .filter_map(|mail| match mail {
                Mail::Output {
                    output,
                    data,
                    last,
                    credit,
                    ..
                } => Some((output, data.len(), last, credit)),
                _ => None,
            })
            .collect();
        let all = CHUNK_BYTES_MAX as u32;
        assert_eq!(
            sizes,
            [
                (0, CHUNK_BYTES_MAX, false, all),
                (0, 10, true, 10),
                (1, 5, true, 5)
            ]
        );
    }

    #[test]
    fn a_new_attempt_voids_the_old_one() {
        let mailbox = Mailbox::new();
        mailbox.push(started(1));
        mailbox.push(output(1, 0, 10, false));
        mailbox.push(started(2));
        mailbox.push(output(1, 0, 10, false));
        mailbox.push(Mail::Need {
            attempt: 2,
            digests: Vec::new(),
        });
        mailbox.push(Mail::Failed(Failure::default()));
        mailbox.push(started(3));
        let kinds: Vec<String> = drain(&mailbox)
            .iter()
            .map(|mail| format!("{mail:?}")[..7].to_owned())
            .collect();
        assert_eq!(kinds, ["Started", "Started", "Failed("]);
    }
}
