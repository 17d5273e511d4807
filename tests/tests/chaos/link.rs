//! A network namespace with one wire to this machine, which can be cut. Takes
//! root and `ip`.

use std::path::Path;
use std::process::Command;

use hg_tests::command::scrubbed;

/// Gone, with its wire, when dropped and when its last process has ended.
pub struct Link {
    /// Of the namespace, and of this end of the wire.
    name: String,
    /// This end's address, as seen from the other one.
    pub address: String,
    cut: bool,
}

impl Link {
    /// The wire of worker `number`.
    ///
    /// # Errors
    /// Words: why there can be none here.
    pub fn lay(number: usize) -> Result<Link, String> {
        let pid = std::process::id();
        // An interface's name has at most 15 bytes.
        let name = format!("hgc{pid}n{number}");
        let far = format!("hgf{pid}n{number}");
        // 198.18.0.0/15 is for tests (RFC 2544).
        let net = format!("198.18.{}", pid % 256);
        let (near_ip, far_ip) = (4 * number + 1, 4 * number + 2);
        let link = Link {
            address: format!("{net}.{near_ip}"),
            name,
            cut: false,
        };
        let name = &link.name;
        for words in [
            format!("netns add {name}"),
            format!("-n {name} link set lo up"),
            format!("link add {name} type veth peer name {far} netns {name}"),
            format!("addr add {net}.{near_ip}/30 dev {name}"),
            format!("link set {name} up"),
            format!("-n {name} addr add {net}.{far_ip}/30 dev {far}"),
            format!("-n {name} link set {far} up"),
        ] {
            ip(&words)?;
        }
        Ok(link)
    }

    /// `program`, to be run at the far end; it keeps the process id that it is
    /// started with.
    pub fn command(&self, program: &Path, home: &Path) -> Command {
        let mut command = scrubbed("ip", home, home);
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// Nothing gets through, and nobody is told.
    pub fn cut(&mut self) {
        self.set("down");
        self.cut = true;
    }

    /// As before.
    pub fn mend(&mut self) {
        if self.cut {
            self.set("up");
            self.cut = false;
        }
    }

    fn set(&self, state: &str) {
        if let Err(why) = ip(&format!("link set {} {state}", self.name)) {
            panic!("{why}");
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // Whatever of it there is: it may have been laid in part.
        let _ = ip(&format!("link del {}", self.name));
        let _ = ip(&format!("netns del {}", self.name));
    }
}

/// Runs `ip` with `words`.
///
/// # Errors
/// Words: what it says.
pub fn ip(words: &str) -> Result<(), String> {
    let mut command = Command::new("ip");
    command.args(words.split(' '));
    match command.output() {
        Err(error) => Err(format!("ip can't be run: {error}")),
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(format!("ip {words}: {}", said.trim()))
        }
    }
}
