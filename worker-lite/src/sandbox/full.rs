//! The full sandbox: a compile in namespaces of its own (user, mount, pid, net,
//! ipc, uts), below a root with nothing in it but the toolchain and the task.
//!
//! Three processes. The worker prepares everything and clones *init* (init.rs), process
//! 1 of the new namespaces. Init builds the root, gives up its privileges and forks the
//! *compiler*, process 2, which so has the signals of an ordinary process. Init waits for
//! it, reports how it ended and ends too; with it the kernel ends all that is left in those
//! namespaces. The worker has several threads: between clone and exec only system calls are
//! made.

use std::ffi::{CString, OsStr, OsString};
use std::fs;
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::libc::{self, c_char, c_int, c_ulong};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, pthread_sigmask};
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, getegid, geteuid, setpgid};

use crate::inputs::layout::TASK;
use crate::inputs::tree::Tree;
use crate::sandbox::init::{self, INIT_FDS, Plan};
use crate::sandbox::launch::{Launch, Started};
use crate::sandbox::network::Network;
use crate::sandbox::report::{InitProcess, with_context};
use crate::sandbox::roots::{Mount, Root, c, locked_flags};
use crate::sandbox::stderr::Stderr;

const NAMESPACES: c_int = libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS;

/// Starts `launch` in `root` and in `network`; without the latter, in a network namespace
/// of its own. What fails in the new namespaces is told by [`InitProcess::exit`].
///
/// # Errors
/// Namespaces, file descriptors or processes can't be had.
pub fn start(
    root: &Arc<Root>,
    network: Option<&Network>,
    launch: &Launch<'_>,
) -> io::Result<Started> {
    let (argv, envp) = (argv(launch)?, envp(launch)?);
    let pointers = |texts: &[CString]| -> Vec<*const c_char> {
        let texts = texts.iter().map(|text| text.as_ptr());
        texts.chain([std::ptr::null()]).collect()
    };
    let setup = match launch.tree {
        Some(tree) => RootSetup::of_tree(tree, root, launch)?,
        None => RootSetup::of_folder(root, launch)?,
    };
    let plan = Plan {
        root,
        mount_point: c(setup.mount_point.as_os_str().as_bytes())?,
        skeleton: c(setup.skeleton.as_os_str().as_bytes())?,
        skeleton_flags: locked_flags(&setup.skeleton)?,
        task_mounts: setup.task_mounts,
        tmp: (c(TMP.as_bytes())?, c(tmp_options(launch).as_bytes())?),
        omitted: setup.omitted,
        directory: c(setup.directory.as_os_str().as_bytes())?,
        program: c(launch.driver.as_os_str().as_bytes())?,
        arguments: pointers(&argv),
        environment: pointers(&envp),
        limits: launch.limits,
        user: launch.user,
        escape: launch.escape,
    };
    let stderr = Stderr::new(launch.terminal)?;
    let on_terminal = stderr.on_terminal;
    let (pid, pipes) = spawn(&plan, network, stderr)?;
    if let Err(error) = let_go_on(pid, launch, &pipes.go) {
        kill_and_reap(pid);
        return Err(error);
    }
    Ok(Started {
        pid,
        stdout: Some(pipes.stdout.into()),
        stderr: Some(pipes.stderr),
        on_terminal,
        cgroup: None,
        init: Some(InitProcess {
            report: pipes.report.into(),
            root: root.clone(),
        }),
    })
}

/// Folder for temporary files of a task, relative to the root.
const TMP: &str = "task/tmp";

fn tmp_options(launch: &Launch<'_>) -> String {
    let user = launch.user.unwrap_or(geteuid().as_raw());
    let group = launch.user.unwrap_or(getegid().as_raw());
    launch.limits.totals.tmp_options(user, group)
}

/// How a root is put together for one task, which depends on the form of the task.
struct RootSetup {
    mount_point: PathBuf,
    skeleton: PathBuf,
    task_mounts: Vec<Mount>,
    /// For each of the root's mounts: the task has files of its own in that place.
    omitted: Vec<bool>,
    directory: PathBuf,
}

impl RootSetup {
    /// Preprocessed form: all files of the task lie in one folder of the root.
    fn of_folder(root: &Root, launch: &Launch<'_>) -> io::Result<Self> {
        let missing = || io::Error::other("a root for the tree form alone");
        let skeleton = root.skeleton.clone().ok_or_else(missing)?;
        Ok(RootSetup {
            mount_point: skeleton.clone(),
            skeleton,
            task_mounts: vec![Mount::writable(launch.folder.path(), Path::new(TASK))?],
            omitted: vec![false; root.mounts.len()],
            directory: Path::new(TASK).join("root").join(launch.directory),
        })
    }

    /// Tree form: the root is made of the task's files, and only some of its folders can be
    /// written to.
    fn of_tree(tree: &Tree<'_>, root: &Root, launch: &Launch<'_>) -> io::Result<Self> {
        let task = launch.folder.path();
        let mut task_mounts = Vec::new();
        for name in ["home", "tmp"] {
            task_mounts.push(Mount::writable(
                &task.join(name),
                &Path::new(TASK).join(name),
            )?);
        }
        for bind in tree.binds() {
            task_mounts.push(match bind.writable {
                true => Mount::writable(&bind.source, &bind.target)?,
                false => Mount::new(
                    &bind.source,
                    &bind.target,
                    libc::MS_BIND,
                    libc::MS_RDONLY | libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC,
                )?,
            });
        }
        let is_replaced = |mount: &Mount| {
            let target = Path::new("/").join(OsStr::from_bytes(mount.target.as_bytes()));
            mount.is_optional && tree.replaces(&target)
        };
        Ok(RootSetup {
            mount_point: tree.mount_point(),
            skeleton: tree.skeleton_root(),
            task_mounts,
            omitted: root.mounts.iter().map(is_replaced).collect(),
            directory: launch.directory.to_path_buf(),
        })
    }
}

/// The command line as execve(2) takes it.
fn argv(launch: &Launch<'_>) -> io::Result<Vec<CString>> {
    let words = std::iter::once(launch.driver.as_os_str());
    let words = words.chain(launch.arguments.iter().map(OsString::as_os_str));
    words.map(|word| c(word.as_bytes())).collect()
}

/// The environment as execve(2) takes it.
fn envp(launch: &Launch<'_>) -> io::Result<Vec<CString>> {
    let all = launch.environment_at(Path::new(TASK)).into_iter();
    all.map(|(name, value)| c(&[name.as_bytes(), b"=", value.as_bytes()].concat()))
        .collect()
}

/// The worker's ends of the pipes to an init.
struct Pipes {
    stdout: PipeReader,
    stderr: OwnedFd,
    report: PipeReader,
    /// Init goes on once a byte comes through.
    go: PipeWriter,
}

/// Starts an init, which waits for [`let_go_on`].
fn spawn(plan: &Plan<'_>, network: Option<&Network>, stderr: Stderr) -> io::Result<(Pid, Pipes)> {
    let null = fs::File::open("/dev/null")?;
    let (stdout, stdout_in) = io::pipe()?;
    let (report, report_in) = io::pipe()?;
    let (go_out, go) = io::pipe()?;
    let fds = [
        null.as_raw_fd(),
        stdout_in.as_raw_fd(),
        stderr.writer.as_raw_fd(),
        report_in.as_raw_fd(),
        go_out.as_raw_fd(),
    ];
    // Until the child has its own handlers, ours must not run in it: they would
    // tell the worker a second time.
    let mut before = SigSet::empty();
    pthread_sigmask(
        SigmaskHow::SIG_SETMASK,
        Some(&SigSet::all()),
        Some(&mut before),
    )?;
    let cloned = match network {
        Some(network) => clone_in_network(network, plan, fds),
        None => clone_init(plan, fds, NAMESPACES | libc::CLONE_NEWNET),
    };
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&before), None)?;
    let pid = cloned.map_err(|error| with_context("no namespaces for us", error))?;
    // The child does the same: whoever is first.
    let _ = setpgid(pid, pid);
    let pipes = Pipes {
        stdout,
        stderr: stderr.reader,
        report,
        go,
    };
    Ok((pid, pipes))
}

/// Starts init in new namespaces and in `network`.
fn clone_in_network(network: &Network, plan: &Plan<'_>, fds: [RawFd; INIT_FDS]) -> io::Result<Pid> {
    if network.enter().is_err() {
        return clone_init(plan, fds, NAMESPACES | libc::CLONE_NEWNET);
    }
    let cloned = clone_init(plan, fds, NAMESPACES);
    if let Err(error) = network.leave() {
        if let Ok(pid) = cloned {
            kill_and_reap(pid);
        }
        return Err(error);
    }
    cloned
}

/// Starts init in the new namespaces that `flags` name.
fn clone_init(plan: &Plan<'_>, fds: [RawFd; INIT_FDS], flags: c_int) -> io::Result<Pid> {
    // SAFETY: as fork: no memory is shared, and the child makes system calls only.
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone,
            (flags | libc::SIGCHLD) as c_ulong,
            0usize,
            0usize,
            0usize,
            0usize,
        )
    };
    match pid {
        0 => init::run(plan, fds),
        1.. => Ok(Pid::from_raw(pid as i32)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Ends an init whose report nobody will read.
fn kill_and_reap(pid: Pid) {
    let _ = kill(pid, Signal::SIGKILL);
    let _ = waitpid(pid, None);
}

/// Does for an init what it waits for, from outside, and lets it go on.
fn let_go_on(pid: Pid, launch: &Launch<'_>, go: &PipeWriter) -> io::Result<()> {
    map_users(pid, launch.user).map_err(|error| with_context("its users", error))?;
    if let Some(group) = launch.cgroup {
        group
            .add(pid)
            .map_err(|error| with_context("its control group", error))?;
    }
    nix::unistd::write(go, b"g")?;
    Ok(())
}

/// Maps one user and one group of this machine into the user namespace of `pid`, under
/// their own numbers.
fn map_users(pid: Pid, user: Option<u32>) -> io::Result<()> {
    let proc = format!("/proc/{pid}");
    let (uid, gid) = match user {
        Some(user) => (user, user),
        None => {
            // Without this, a user without privileges may map no group.
            fs::write(format!("{proc}/setgroups"), "deny")?;
            (geteuid().as_raw(), getegid().as_raw())
        }
    };
    fs::write(format!("{proc}/uid_map"), format!("{uid} {uid} 1"))?;
    fs::write(format!("{proc}/gid_map"), format!("{gid} {gid} 1"))
}

/// Settings of this machine that may forbid namespaces to the worker, for people.
pub fn hints() -> Vec<String> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let is = |path: &str, value: &str| read(path).trim() == value;
    let mut hints = Vec::new();
    if is("/proc/sys/kernel/unprivileged_userns_clone", "0") {
        hints.push("kernel.unprivileged_userns_clone is 0".to_owned());
    }
    if is("/proc/sys/user/max_user_namespaces", "0") {
        hints.push("user.max_user_namespaces is 0".to_owned());
    }
    if is(
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
    ) {
        hints.push("kernel.apparmor_restrict_unprivileged_userns is 1".to_owned());
    }
    let filtered = |line: &str| {
        line.strip_prefix("Seccomp:")
            .is_some_and(|mode| mode.trim() == "2")
    };
    if read("/proc/self/status").lines().any(filtered) {
        hints.push("a seccomp filter is in force, as Docker's default profile is".to_owned());
    }
    hints
}
