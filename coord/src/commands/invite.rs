//! `hg-coord invite`: one line for each machine that is to join; and what `hg-coord serve`
//! says is to be typed next.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use hg_proto::secure::token::Role;

use crate::commands::running::Endpoints;
use crate::config::{self, CommandError, Config, Invite};
use crate::trust::secrets;

/// Prints the lines.
///
/// # Errors
/// What did not work, for the operator.
pub fn run(args: &Invite, home: Option<PathBuf>) -> Result<(), CommandError> {
    if args.role == Some(Role::Viewer) {
        return Err(CommandError::Usage(
            "a viewer joins nothing, and shows its token itself: hg-coord token --role viewer"
                .into(),
        ));
    }
    let state = config::state_of(args.state.as_deref(), home)?;
    let (address, hint) = match &args.coordinator {
        Some(address) => (Some(checked(address)?), None),
        None => reached_at(Endpoints::of(&state).map_err(CommandError::Usage)?)?,
    };
    let roles = match args.role {
        Some(role) => vec![role],
        None => vec![Role::Worker, Role::Client],
    };
    for role in roles {
        let name = args.name.clone();
        let name = name.unwrap_or_else(|| format!("{role}-{:08x}", fastrand::u32(..)));
        let token = secrets::give(&state, role, &name, args.expires)?;
        let typed_where = match role {
            Role::Worker => "on a machine that shall compile",
            Role::Client => "on a developer's machine",
            _ => "on an admin's machine",
        };
        eprintln!("hg-coord: {typed_where} ({role} {name}):");
        println!("{}", line(role, &token.to_text(), address.as_deref()));
    }
    if let Some(hint) = hint {
        eprintln!("hg-coord: {hint}");
    }
    Ok(())
}

/// The line for who is to be `role`. `echo` is a part of every shell, so that no list of
/// processes shows the token.
fn line(role: Role, token: &str, address: Option<&str>) -> String {
    let coordinator = address.map(|address| format!(" --coordinator {address}"));
    let coordinator = coordinator.unwrap_or_default();
    match role {
        Role::Worker => {
            format!("echo {token} | hg-worker-lite join{coordinator} && hg-worker-lite serve")
        }
        _ => format!("echo {token} | hgbuild join{coordinator}"),
    }
}

/// HOST:PORT, and nothing that a shell would take for more.
fn checked(address: &str) -> Result<String, CommandError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]%".contains(&byte);
    match address.rsplit_once(':') {
        Some((host, port))
            if !host.is_empty()
                && port.parse::<u16>().is_ok_and(|port| port != 0)
                && address.bytes().all(plain) =>
        {
            Ok(address.to_owned())
        }
        _ => Err(CommandError::Usage(format!(
            "--coordinator {address}: not HOST:PORT"
        ))),
    }
}

/// What a line says of where the coordinator is (`None`: it is found), and what is to be told
/// of that.
fn reached_at(
    endpoints: Endpoints,
) -> Result<(Option<String>, Option<&'static str>), CommandError> {
    if endpoints.insecure {
        return Err(CommandError::Usage(
            "it runs with --insecure: there is nothing to join".into(),
        ));
    }
    let address = endpoints.grid;
    let ip = address.ip().to_canonical();
    if ip.is_loopback() {
        let hint = "the coordinator listens on this machine alone: see --listen of 'serve'";
        return Ok((Some(address.to_string()), Some(hint)));
    }
    if !ip.is_unspecified() {
        return Ok((Some(address.to_string()), None));
    }
    if endpoints.mdns {
        let hint = "found by mDNS on this network; for machines beyond it: --coordinator \
                    HOST:PORT";
        return Ok((None, Some(hint)));
    }
    let host = nix::unistd::gethostname().unwrap_or_default();
    let host = checked(&format!("{}:{}", host.to_string_lossy(), address.port()))?;
    let hint = "this machine's own name; should others know it by another one: --coordinator \
                HOST:PORT";
    Ok((Some(host), Some(hint)))
}

/// What to type once a coordinator with `config` listens at `address`, line by line.
pub fn next_steps(config: &Config, address: SocketAddr) -> [String; 2] {
    let local = match address.ip().is_unspecified() {
        true => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), address.port()),
        false => address,
    };
    if config.insecure {
        return [
            format!("next, for a worker: hg-worker-lite serve --insecure --coordinator {local}"),
            format!("next, for a build: HG_INSECURE=1 HG_COORDINATOR={local} hgbuild make"),
        ];
    }
    if address.ip().to_canonical().is_loopback() {
        return [
            format!("next, for a worker: hg-worker-lite serve --coordinator {local}"),
            format!("next, for a build: HG_COORDINATOR={local} hgbuild make"),
        ];
    }
    let state = state_flag(&config.state);
    [
        format!(
            "next, here: hg-coord invite --role worker{state}, for the line to type on a \
             machine that shall compile"
        ),
        format!(
            "next, here: hg-coord invite --role client{state}, for the one to type on a \
             developer's machine"
        ),
    ]
}

/// ` --state DIR`, unless `state` is the default one.
fn state_flag(state: &Path) -> String {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    match config::state(None, home) {
        Ok(default) if default == state => String::new(),
        _ => format!(" --state '{}'", state.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(grid: &str, mdns: bool) -> Endpoints {
        Endpoints {
            grid: grid.parse().unwrap(),
            insecure: false,
            mdns,
        }
    }

    #[test]
    fn a_line_says_where_the_coordinator_is_unless_it_is_found() {
        let reached = |grid, mdns| reached_at(endpoints(grid, mdns)).unwrap();
        assert_eq!(reached("[::]:9000", true).0, None);
        assert_eq!(
            reached("192.0.2.1:9", true).0.as_deref(),
            Some("192.0.2.1:9")
        );
        let (address, hint) = reached("127.0.0.1:9", false);
        assert_eq!(address.as_deref(), Some("127.0.0.1:9"));
        assert!(hint.is_some());
        let (address, hint) = reached("0.0.0.0:9", false);
        assert!(address.unwrap().ends_with(":9") && hint.is_some());
        let line = line(Role::Worker, "hgt1.x", Some("h:1"));
        assert!(line.starts_with("echo hgt1.x | hg-worker-lite join --coordinator h:1 "));
    }

    #[test]
    fn an_address_is_nothing_more() {
        assert!(checked("build.lan:9000").is_ok() && checked("[fe80::1%2]:9000").is_ok());
        for wrong in ["h", "h:0", ":1", "h;reboot:1", "$(x):1", "h:1 x"] {
            assert!(checked(wrong).is_err(), "{wrong}");
        }
    }
}
