//! A bounded number of connections that have not earned their place yet. When
//! one more comes, the oldest goes.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::sync::oneshot;

#[derive(Default)]
struct Members {
    members: BTreeMap<u64, oneshot::Sender<()>>,
    seen: u64,
}

/// See the top of the file.
pub struct Crowd {
    max: usize,
    state: Mutex<Members>,
}

/// A place in the crowd, given up when dropped.
pub struct Member {
    crowd: Arc<Crowd>,
    number: u64,
    evicted: oneshot::Receiver<()>,
}

impl Crowd {
    /// An empty crowd with room for `max`.
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Crowd {
            max: max.max(1),
            state: Mutex::default(),
        })
    }

    fn state(&self) -> MutexGuard<'_, Members> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place, if need be that of the oldest member.
    pub fn enter(self: &Arc<Self>) -> Member {
        let (sender, evicted) = oneshot::channel();
        let mut state = self.state();
        while state.members.len() >= self.max {
            state.evict();
        }
        state.seen += 1;
        let number = state.seen;
        state.members.insert(number, sender);
        drop(state);
        Member {
            crowd: self.clone(),
            number,
            evicted,
        }
    }

    /// Evicts the oldest member.
    pub fn evict(&self) {
        self.state().evict();
    }
}

impl Members {
    fn evict(&mut self) {
        if let Some((_, sender)) = self.members.pop_first() {
            // The member may be leaving by itself at this moment.
            let _ = sender.send(());
        }
    }
}

impl Member {
    /// Returns when this member is evicted.
    pub async fn evicted(&mut self) {
        poll_fn(|context| self.poll_evicted(context)).await;
    }

    /// Whether this member is evicted.
    pub fn poll_evicted(&mut self, context: &mut Context<'_>) -> Poll<()> {
        // The sender is dropped only after it has sent, or with the crowd.
        Pin::new(&mut self.evicted).poll(context).map(drop)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.crowd.state().members.remove(&self.number);
    }
}
