//! Announces the coordinator on the networks that it listens on, by multicast DNS, and
//! keeps the id by which its grid is told from others.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hg_proto::lan::announcement::{self, Announcement, GRID_ID_CHARS, SERVICE, SERVICE_NAME_BYTES};
use mdns_sd::{IfKind, ServiceDaemon, ServiceInfo};

use crate::log;
use crate::state_folder;
use crate::trust::doorkeeper::Doorkeeper;

/// How long it may take to say goodbye.
const GOODBYE_WAIT_MAX: Duration = Duration::from_millis(200);
/// File in the state folder with the grid's id.
const GRID_ID_NAME: &str = "grid-id";

/// The id of the grid whose state is in `state`, made when there is none. Nothing is decided
/// by it: it tells people which grid is which.
///
/// # Errors
/// In words: the file can't be read or written, or has something else in it.
pub fn grid_id(state: &Path) -> Result<String, String> {
    let path = state.join(GRID_ID_NAME);
    let told = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
    match fs::read_to_string(&path) {
        Ok(text) if announcement::is_grid_id(text.trim()) => Ok(text.trim().to_owned()),
        Ok(_) => Err(told(&format_args!(
            "not {GRID_ID_CHARS} hexadecimal digits; remove it to have another id made"
        ))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let id = format!("{:08x}", fastrand::u32(..));
            state_folder::write(state, GRID_ID_NAME, format!("{id}\n").as_bytes())
                .map_err(|error| told(&error))?;
            Ok(id)
        }
        Err(error) => Err(told(&error)),
    }
}

/// Whether what listens at `address` can be reached from other machines.
pub fn is_for_others(address: SocketAddr) -> bool {
    !address.ip().to_canonical().is_loopback()
}

/// Announces until the coordinator ends. A network that comes later is announced on, too.
pub struct Announcer {
    daemon: ServiceDaemon,
    grid: String,
    listens_at: SocketAddr,
}

impl Announcer {
    /// For the grid `grid`, whose coordinator listens at `listens_at`.
    ///
    /// # Errors
    /// In words: the system gives no thread.
    pub fn start(grid: String, listens_at: SocketAddr) -> Result<Self, String> {
        let told = |error: mdns_sd::Error| format!("mDNS: {error}");
        let daemon = ServiceDaemon::new().map_err(told)?;
        daemon
            .set_service_name_len_max(SERVICE_NAME_BYTES)
            .map_err(told)?;
        let mut unwanted = vec![IfKind::LoopbackV4, IfKind::LoopbackV6];
        if listens_at.ip().is_ipv4() {
            unwanted.push(IfKind::IPv6);
        }
        daemon.disable_interface(unwanted).map_err(told)?;
        Ok(Announcer {
            daemon,
            grid,
            listens_at,
        })
    }

    /// Announces the certificates that `keeper` has, now and whenever these have changed, for
    /// ever.
    pub async fn announce(&self, keeper: Arc<Doorkeeper>) {
        let mut changes = keeper.changes();
        let mut announced = Vec::new();
        loop {
            // Its sender lives in the keeper.
            let _ = changes.changed().await;
            let fingerprints = keeper.fingerprints();
            if fingerprints == announced {
                continue;
            }
            announced.clone_from(&fingerprints);
            let announcement = Announcement {
                grid: self.grid.clone(),
                host: host(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                fingerprints,
            };
            if let Err(error) = self.register(&announcement) {
                log::warn(format_args!("not announced: mDNS: {error}"));
            }
        }
    }

    fn register(&self, announcement: &Announcement) -> Result<(), mdns_sd::Error> {
        let name = format!("hybridgrid-{}", self.grid);
        // A name of its own: the machine's may be announced by another responder here.
        let target = format!("{name}.local.");
        let properties: HashMap<String, String> = announcement.properties().into_iter().collect();
        let (ip, port) = (self.listens_at.ip(), self.listens_at.port());
        let mut service = match ip.is_unspecified() {
            true => {
                ServiceInfo::new(SERVICE, &name, &target, "", port, properties)?.enable_addr_auto()
            }
            false => ServiceInfo::new(SERVICE, &name, &target, ip, port, properties)?,
        };
        // The name has a random number in it: there is nobody to ask whether it is taken.
        service.set_requires_probe(false);
        self.daemon.register(service)
    }
}

impl Drop for Announcer {
    /// Says goodbye, so that nobody dials in vain.
    fn drop(&mut self) {
        if let Ok(said) = self.daemon.shutdown() {
            let _ = said.recv_timeout(GOODBYE_WAIT_MAX);
        }
    }
}

/// The machine's name, as far as it can be shown everywhere.
fn host() -> String {
    let name = nix::unistd::gethostname().unwrap_or_default();
    let name = name.to_string_lossy();
    let first = name.split('.').next().unwrap_or_default();
    match announcement::is_plain(first) {
        true => first.to_owned(),
        false => "unnamed".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_keeps_its_id() {
        let state = tempfile::tempdir().unwrap();
        let id = grid_id(state.path()).unwrap();
        assert!(announcement::is_grid_id(&id), "{id}");
        assert_eq!(grid_id(state.path()), Ok(id));
        fs::write(state.path().join(GRID_ID_NAME), "mine").unwrap();
        assert!(grid_id(state.path()).unwrap_err().contains(GRID_ID_NAME));
    }

    #[test]
    fn what_is_on_loopback_is_not_for_others() {
        for (address, expected) in [
            ("127.0.0.1:1", false),
            ("[::1]:1", false),
            ("[::ffff:127.0.0.1]:1", false),
            ("0.0.0.0:1", true),
            ("[::]:1", true),
            ("192.0.2.1:1", true),
        ] {
            assert_eq!(
                is_for_others(address.parse().unwrap()),
                expected,
                "{address}"
            );
        }
    }
}
