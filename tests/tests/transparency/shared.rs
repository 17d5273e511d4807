//! The grid that all tests of this program share, for as long as one of them
//! runs.

use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use hg_tests::grid::Grid;
use hg_tests::programs::programs;
use tempfile::TempDir;

/// A coordinator, two workers, and a place for folders.
pub struct Shared {
    /// Of the coordinator.
    pub address: String,
    /// Where nobody listens.
    pub dead: String,
    scratch: TempDir,
    // Ended on drop; its channels make it no `Sync`.
    _grid: Mutex<Grid>,
}

static SHARED: Mutex<Weak<Shared>> = Mutex::new(Weak::new());

impl Shared {
    /// Starts one if there is none.
    pub fn get() -> Arc<Shared> {
        let mut slot = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shared) = slot.upgrade() {
            return shared;
        }
        let grid = Grid::start(programs(), 2, 2);
        let closed = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let shared = Arc::new(Shared {
            address: grid.address(),
            dead: closed.expect("a loopback port").to_string(),
            scratch: tempfile::Builder::new()
                .prefix("hg-same-")
                .tempdir()
                .expect("a temporary folder"),
            _grid: Mutex::new(grid),
        });
        *slot = Arc::downgrade(&shared);
        shared
    }

    /// A folder for everything.
    pub fn scratch(&self) -> &Path {
        self.scratch.path()
    }
}
