//! The full sandbox: a compile in namespaces of its own (user, mount, pid, net,
//! ipc, uts), below a root with nothing in it but the toolchain and the task.
//!
//! Three processes. The worker prepares everything and clones *init*, process 1 of
//! the new namespaces. Init builds the root, gives up what it may do and forks the
//! *compiler*, process 2, which so has the signals of an ordinary process. Init
//! waits for it, reports how it ended and ends too; with it the kernel ends all
//! that is left in there. The worker has several threads: between clone and exec only
//! system calls are made.

use std::collections::HashMap;
use std::ffi::{CString, OsStr, OsString};
use std::fs;
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use nix::libc::{self, c_char, c_int, c_ulong, c_void};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, pthread_sigmask};
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, getegid, geteuid, setpgid};

use crate::escape::{self, Targets};
use crate::groups::Group;
use crate::privileges::{self, Confines};
use crate::root::{Entry, Layout, TASK};
use crate::sandbox::{Ended, Launch, PROCESSES_MAX, Started};
use crate::seccomp::Filter;
use crate::state::{make_private, remove_tree};
use crate::tree::Tree;

const NAMESPACES: c_int = libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS;
/// The first Linux that counts a user's processes by user namespace.
const COUNTED_BY_NAMESPACE: (u32, u32) = (5, 14);
/// Roots that are kept ready; each is some small files.
const ROOTS_MAX: usize = 64;
/// What init has open: the compiler's three, and its own two.
const REPORT: RawFd = 3;
const GO: RawFd = 4;
const INIT_FDS: usize = 5;
/// Descriptors that are closed one by one where the kernel can't close a range.
const FDS_MAX: RawFd = 4096;
/// What the machine is called in there.
const HOSTNAME: &[u8] = b"worker";
/// The network of the thread that looks.
const NETWORK: &str = "/proc/thread-self/ns/net";
/// For what process 2 does before it becomes the compiler.
const STACK_BYTES: usize = 16 << 10;

/// A root that is ready to be mounted, for any number of compiles.
#[derive(Debug)]
pub struct Root {
    /// Where its folders are; `None`: each task of the tree form has its own.
    skeleton: Option<PathBuf>,
    layout: Arc<Layout>,
    mounts: Vec<Mount>,
    filter: Filter,
    processes_max: Option<u64>,
}

#[derive(Debug)]
struct Mount {
    source: CString,
    /// Relative to the root.
    target: CString,
    bind: c_ulong,
    flags: c_ulong,
    /// It yields to what a task has there.
    spare: bool,
}

impl Mount {
    fn new(source: &Path, target: &Path, bind: c_ulong, flags: c_ulong) -> io::Result<Self> {
        let target = target.strip_prefix("/").unwrap_or(target);
        Ok(Mount {
            source: c(source.as_os_str().as_bytes())?,
            target: c(target.as_os_str().as_bytes())?,
            bind,
            flags: flags | kept_flags(source)?,
            spare: false,
        })
    }

    /// What a compile may write to: nothing in it is run.
    fn writable(source: &Path, target: &Path) -> io::Result<Self> {
        let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
        Mount::new(source, target, libc::MS_BIND, flags)
    }
}

fn c(bytes: &[u8]) -> io::Result<CString> {
    CString::new(bytes).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
}

/// Flags that the place of `path` has already, which nobody may take away there.
fn kept_flags(path: &Path) -> io::Result<c_ulong> {
    let flags = statvfs(path)?.flags();
    let pairs = [
        (FsFlags::ST_RDONLY, libc::MS_RDONLY),
        (FsFlags::ST_NOSUID, libc::MS_NOSUID),
        (FsFlags::ST_NODEV, libc::MS_NODEV),
        (FsFlags::ST_NOEXEC, libc::MS_NOEXEC),
    ];
    let kept = pairs.iter().filter(|(flag, _)| flags.contains(*flag));
    Ok(kept.fold(0, |all, (_, flag)| all | flag))
}

impl Root {
    /// Writes the skeleton of `layout` to `skeleton`, which is not there yet.
    ///
    /// # Errors
    /// The file system says no.
    pub fn new(layout: Layout, skeleton: &Path) -> io::Result<Self> {
        layout.write(skeleton)?;
        let mut root = Root::without_skeleton(layout)?;
        root.skeleton = Some(skeleton.to_path_buf());
        // It is on the disk now, and nobody asks for it here.
        root.layout = Arc::default();
        Ok(root)
    }

    fn without_skeleton(layout: Layout) -> io::Result<Self> {
        let mount = |(path, entry): (&Path, &Entry)| {
            let shared = libc::MS_RDONLY | libc::MS_NOSUID | libc::MS_NODEV;
            let (source, bind, flags) = match entry {
                Entry::Tree(source) | Entry::Spare(source) => {
                    (source, libc::MS_BIND | libc::MS_REC, shared)
                }
                Entry::File(source) => (source, libc::MS_BIND, shared),
                Entry::Device(source) => (source, libc::MS_BIND, libc::MS_NOSUID | libc::MS_NOEXEC),
                Entry::Folder | Entry::Link(_) | Entry::Mark => return Ok(None),
            };
            let mut mount = Mount::new(source, path, bind, flags)?;
            mount.spare = matches!(entry, Entry::Spare(_));
            Ok(Some(mount))
        };
        let mounts: io::Result<Vec<_>> = layout.sources().map(mount).collect();
        Ok(Root {
            skeleton: None,
            mounts: mounts?.into_iter().flatten().collect(),
            layout: Arc::new(layout),
            filter: Filter::new(true),
            processes_max: counts_by_namespace().then_some(PROCESSES_MAX),
        })
    }

    /// What is where in it.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        if let Some(skeleton) = &self.skeleton {
            // What stays is small, and goes at the next start.
            let _ = remove_tree(skeleton);
        }
    }
}

/// Whether a limit on processes is one on this compile alone.
fn counts_by_namespace() -> bool {
    let release = nix::sys::utsname::uname();
    let release = release
        .as_ref()
        .map(|name| name.release().to_string_lossy());
    let release = release.unwrap_or_default();
    let mut numbers = release.split(['.', '-']).map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= COUNTED_BY_NAMESPACE,
        _ => false,
    }
}

/// A network with nothing in it. The kernel takes longer to make one, and to take it
/// down, than for all the other namespaces together, one at a time on the whole
/// machine: who may make it beforehand shares it among compiles. It belongs to the
/// worker's users, so that no compile may change it, and the filter has no sockets.
#[derive(Debug)]
pub struct Network {
    nowhere: fs::File,
    here: fs::File,
}

impl Network {
    /// `None`: each compile needs one of its own.
    fn empty() -> Option<Self> {
        let make = || -> io::Result<Self> {
            let here = fs::File::open(NETWORK)?;
            // SAFETY: a plain system call; the thread does nothing else.
            if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
                return Err(io::Error::last_os_error());
            }
            let nowhere = fs::File::open(NETWORK)?;
            // Who may make one may not always enter it.
            enter(&here)?;
            enter(&nowhere)?;
            Ok(Network { nowhere, here })
        };
        let made = thread::Builder::new().name("network".into()).spawn(make);
        made.ok()?.join().ok()?.ok()
    }

    /// As [`clone_init`], from in there.
    fn clone_init(&self, plan: &Plan<'_>, fds: [RawFd; INIT_FDS]) -> io::Result<Pid> {
        if enter(&self.nowhere).is_err() {
            return clone_init(plan, fds, NAMESPACES | libc::CLONE_NEWNET);
        }
        let cloned = clone_init(plan, fds, NAMESPACES);
        if let Err(error) = enter(&self.here) {
            if let Ok(pid) = cloned {
                abandon(pid);
            }
            return Err(error);
        }
        cloned
    }
}

/// Moves this thread to `network`.
fn enter(network: &fs::File) -> io::Result<()> {
    // SAFETY: a plain system call on a descriptor that is ours.
    match unsafe { libc::setns(network.as_raw_fd(), libc::CLONE_NEWNET) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Roots by what is in them, each written once.
pub struct Roots {
    place: PathBuf,
    known: Mutex<Known>,
    network: Option<Network>,
}

#[derive(Default)]
struct Known {
    roots: HashMap<Vec<PathBuf>, Arc<Root>>,
    in_place: HashMap<Vec<PathBuf>, Arc<Root>>,
    made: u64,
}

impl Roots {
    /// None yet; they will lie in `place`, which is emptied.
    ///
    /// # Errors
    /// The file system says no.
    pub fn in_place(place: PathBuf) -> io::Result<Self> {
        remove_tree(&place)?;
        make_private(&place)?;
        // As compilers find it mounted: links on the way are not theirs.
        let place = place.canonicalize()?;
        Ok(Roots {
            place,
            known: Mutex::default(),
            network: Network::empty(),
        })
    }

    /// The network of all compiles, if they have one.
    pub fn network(&self) -> Option<&Network> {
        self.network.as_ref()
    }

    /// The root that shows `files`.
    ///
    /// # Errors
    /// One of them is not there, or the file system says no.
    pub fn of(&self, files: &[PathBuf]) -> io::Result<Arc<Root>> {
        // No code panics while it holds the lock, and what it guards is whole.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(root) = known.roots.get(files) {
            return Ok(root.clone());
        }
        if known.roots.len() >= ROOTS_MAX {
            known.roots.clear();
        }
        known.made += 1;
        let skeleton = self.place.join(known.made.to_string());
        let root = Arc::new(Root::new(Layout::of(files)?, &skeleton)?);
        known.roots.insert(files.to_vec(), root.clone());
        Ok(root)
    }

    /// The root that shows `files` to tasks of the tree form.
    ///
    /// # Errors
    /// As [`Roots::of`].
    pub fn in_place_of(&self, files: &[PathBuf]) -> io::Result<Arc<Root>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(root) = known.in_place.get(files) {
            return Ok(root.clone());
        }
        if known.in_place.len() >= ROOTS_MAX {
            known.in_place.clear();
        }
        let root = Arc::new(Root::without_skeleton(Layout::in_place(files)?)?);
        known.in_place.insert(files.to_vec(), root.clone());
        Ok(root)
    }

    /// What is known of how to show `files` is wrong.
    pub fn forget(&self, files: &[PathBuf]) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.roots.remove(files);
        known.in_place.remove(files);
    }
}

/// What went wrong in the child, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
enum Step {
    Descriptors,
    Limits,
    Mounts,
    Root,
    File,
    Task,
    Pivot,
    Folder,
    User,
    Capabilities,
    Parent,
    Filter,
    Fork,
    Exec,
}

const STEPS: [(Step, &str); 14] = [
    (Step::Descriptors, "its descriptors"),
    (Step::Limits, "its limits"),
    (Step::Mounts, "mounts of its own"),
    (Step::Root, "mounting its root"),
    (Step::File, "mounting"),
    (Step::Task, "mounting the task's folder"),
    (Step::Pivot, "changing to its root"),
    (Step::Folder, "entering the task's folder"),
    (Step::User, "its user"),
    (Step::Capabilities, "dropping capabilities"),
    (Step::Parent, "its end with the worker's"),
    (Step::Filter, "the filter of system calls"),
    (Step::Fork, "forking"),
    (Step::Exec, "running the compiler"),
];

/// What init tells the worker, once.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct Report {
    /// 1: `value` is a wait status; 2: it is a [`Step`], and `errno` why.
    kind: i32,
    value: i32,
    errno: i32,
    /// Which of the mounts.
    mount: i32,
    user_us: u64,
    system_us: u64,
    peak_bytes: u64,
}

const ENDED: i32 = 1;
const FAILED: i32 = 2;
const REPORT_BYTES: usize = size_of::<Report>();

/// Everything that the child needs, in the form in which the kernel takes it.
struct Plan<'a> {
    root: &'a Arc<Root>,
    network: Option<&'a Network>,
    /// Where the root is mounted, and what.
    place: CString,
    skeleton: CString,
    skeleton_flags: c_ulong,
    /// What is the task's own in it.
    own: Vec<Mount>,
    /// Which of the root's mounts the task has in its own way.
    without: Vec<bool>,
    directory: CString,
    program: CString,
    arguments: Vec<*const c_char>,
    environment: Vec<*const c_char>,
    confines: Confines,
    user: Option<u32>,
    group: Option<&'a Group>,
    escape: Option<&'a Targets>,
}

/// Starts `launch` in `root` and `network`; without that, in one of its own. What goes
/// wrong in there is told by [`Init::ended`].
///
/// # Errors
/// There are no namespaces, or no descriptors and processes.
pub fn start(
    root: &Arc<Root>,
    network: Option<&Network>,
    launch: &Launch<'_>,
) -> io::Result<Started> {
    let (words, variables) = (words(launch)?, variables(launch)?);
    let pointers = |texts: &[CString]| -> Vec<*const c_char> {
        let texts = texts.iter().map(|text| text.as_ptr());
        texts.chain([std::ptr::null()]).collect()
    };
    let ground = match launch.tree {
        Some(tree) => Ground::of_tree(tree, root, launch)?,
        None => Ground::of_folder(root, launch)?,
    };
    let plan = Plan {
        root,
        network,
        place: c(ground.place.as_os_str().as_bytes())?,
        skeleton: c(ground.skeleton.as_os_str().as_bytes())?,
        skeleton_flags: kept_flags(&ground.skeleton)?,
        own: ground.own,
        without: ground.without,
        directory: c(ground.directory.as_os_str().as_bytes())?,
        program: c(launch.driver.as_os_str().as_bytes())?,
        arguments: pointers(&words),
        environment: pointers(&variables),
        confines: launch.confines,
        user: launch.user,
        group: launch.group,
        escape: launch.escape,
    };
    spawn(&plan)
}

/// What a root is built on, by the form of the task.
struct Ground {
    place: PathBuf,
    skeleton: PathBuf,
    own: Vec<Mount>,
    without: Vec<bool>,
    directory: PathBuf,
}

impl Ground {
    /// All that is the task's lies in one folder of the root.
    fn of_folder(root: &Root, launch: &Launch<'_>) -> io::Result<Self> {
        let missing = || io::Error::other("a root for the tree form alone");
        let skeleton = root.skeleton.clone().ok_or_else(missing)?;
        Ok(Ground {
            place: skeleton.clone(),
            skeleton,
            own: vec![Mount::writable(launch.folder.path(), Path::new(TASK))?],
            without: vec![false; root.mounts.len()],
            directory: Path::new(TASK).join("root").join(launch.directory),
        })
    }

    /// The task's files are the root, and only some folders of it can be written.
    fn of_tree(tree: &Tree<'_>, root: &Root, launch: &Launch<'_>) -> io::Result<Self> {
        let task = launch.folder.path();
        let mut own = Vec::new();
        for name in ["home", "tmp"] {
            own.push(Mount::writable(
                &task.join(name),
                &Path::new(TASK).join(name),
            )?);
        }
        for bind in tree.binds() {
            own.push(match bind.writable {
                true => Mount::writable(&bind.source, &bind.target)?,
                false => Mount::new(
                    &bind.source,
                    &bind.target,
                    libc::MS_BIND,
                    libc::MS_RDONLY | libc::MS_NOSUID | libc::MS_NODEV,
                )?,
            });
        }
        let is_taken = |mount: &Mount| {
            let target = Path::new("/").join(OsStr::from_bytes(mount.target.as_bytes()));
            mount.spare && tree.has_below(&target)
        };
        Ok(Ground {
            place: tree.place(),
            skeleton: tree.skeleton(),
            own,
            without: root.mounts.iter().map(is_taken).collect(),
            directory: launch.directory.to_path_buf(),
        })
    }
}

/// The command line as execve(2) takes it.
fn words(launch: &Launch<'_>) -> io::Result<Vec<CString>> {
    let words = std::iter::once(launch.driver.as_os_str());
    let words = words.chain(launch.arguments.iter().map(OsString::as_os_str));
    words.map(|word| c(word.as_bytes())).collect()
}

/// The environment as execve(2) takes it.
fn variables(launch: &Launch<'_>) -> io::Result<Vec<CString>> {
    let all = launch.environment_at(Path::new(TASK)).into_iter();
    all.map(|(name, value)| c(&[name.as_bytes(), b"=", value.as_bytes()].concat()))
        .collect()
}

fn spawn(plan: &Plan<'_>) -> io::Result<Started> {
    let null = fs::File::open("/dev/null")?;
    let (stdout, stdout_in) = io::pipe()?;
    let (stderr, stderr_in) = io::pipe()?;
    let (report, report_in) = io::pipe()?;
    let (go_out, go) = io::pipe()?;
    let fds = [
        null.as_raw_fd(),
        stdout_in.as_raw_fd(),
        stderr_in.as_raw_fd(),
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
    let cloned = match plan.network {
        None => clone_init(plan, fds, NAMESPACES | libc::CLONE_NEWNET),
        Some(network) => network.clone_init(plan, fds),
    };
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&before), None)?;
    let pid = cloned.map_err(|error| said("no namespaces for us", error))?;
    // The child does the same: whoever is first.
    let _ = setpgid(pid, pid);
    if let Err(error) = admit(pid, plan, &go) {
        abandon(pid);
        return Err(error);
    }
    Ok(Started {
        pid,
        stdout: Some(stdout.into()),
        stderr: Some(stderr.into()),
        group: None,
        init: Some(Init {
            report: report.into(),
            root: plan.root.clone(),
        }),
    })
}

/// Starts init in new namespaces, as `flags` has them.
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
        0 => init(plan, fds),
        1.. => Ok(Pid::from_raw(pid as i32)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Ends an init that nobody will hear of.
fn abandon(pid: Pid) {
    let _ = kill(pid, Signal::SIGKILL);
    let _ = waitpid(pid, None);
}

/// What init waits for, and lets it go on.
fn admit(pid: Pid, plan: &Plan<'_>, go: &impl std::os::fd::AsFd) -> io::Result<()> {
    map_users(pid, plan.user).map_err(|error| said("its users", error))?;
    if let Some(group) = plan.group {
        group
            .add(pid)
            .map_err(|error| said("its control group", error))?;
    }
    nix::unistd::write(go, b"g")?;
    Ok(())
}

fn said(what: &str, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

/// One user and one group of this machine are there, under their own numbers.
fn map_users(pid: Pid, user: Option<u32>) -> io::Result<()> {
    let proc = format!("/proc/{pid}");
    let (uid, gid) = match user {
        Some(user) => (user, user),
        None => {
            // Without this, who has no privileges may map no group.
            fs::write(format!("{proc}/setgroups"), "deny")?;
            (geteuid().as_raw(), getegid().as_raw())
        }
    };
    fs::write(format!("{proc}/uid_map"), format!("{uid} {uid} 1"))?;
    fs::write(format!("{proc}/gid_map"), format!("{gid} {gid} 1"))
}

/// The worker's end of an init.
#[derive(Debug)]
pub struct Init {
    report: OwnedFd,
    /// Must stay while init works on it.
    root: Arc<Root>,
}

impl Init {
    /// What init said before it ended, now that it has; `None`: it was killed.
    ///
    /// # Errors
    /// The compiler could not be started: why.
    pub fn ended(self) -> io::Result<Option<Ended>> {
        let Some(report) = self.read() else {
            return Ok(None);
        };
        if report.kind == ENDED {
            return Ok(Some(Ended {
                status: report.value,
                user_us: report.user_us,
                system_us: report.system_us,
                peak_bytes: report.peak_bytes,
            }));
        }
        let step = STEPS.iter().find(|(step, _)| *step as i32 == report.value);
        let mut what = step.map_or("?", |(_, words)| words).to_owned();
        if report.value == Step::File as i32
            && let Some(mount) = self.root.mounts.get(report.mount as usize)
        {
            what = format!("{what} {}", mount.source.to_string_lossy());
        }
        Err(said(&what, io::Error::from_raw_os_error(report.errno)))
    }

    fn read(&self) -> Option<Report> {
        // Nobody writes any more; an empty pipe must not hold us up.
        // SAFETY: plain system calls on a descriptor that is ours.
        unsafe {
            let flags = libc::fcntl(self.report.as_raw_fd(), libc::F_GETFL);
            libc::fcntl(
                self.report.as_raw_fd(),
                libc::F_SETFL,
                flags | libc::O_NONBLOCK,
            );
        }
        let mut bytes = [0; REPORT_BYTES];
        let mut file = fs::File::from(self.report.try_clone().ok()?);
        file.read_exact(&mut bytes).ok()?;
        // SAFETY: plain numbers, of which every value is valid.
        Some(unsafe { std::mem::transmute::<[u8; REPORT_BYTES], Report>(bytes) })
    }
}

/// Process 1: builds the root, starts the compiler, waits, reports, ends.
fn init(plan: &Plan<'_>, fds: [RawFd; INIT_FDS]) -> ! {
    let report = match confined(plan, fds) {
        Ok(()) => compiler(plan),
        Err(report) => report,
    };
    tell(report);
    // SAFETY: ends this process without the worker's own clearing up.
    unsafe { libc::_exit(0) }
}

fn tell(report: Report) {
    // SAFETY: a plain system call; a pipe takes so little at once.
    unsafe {
        libc::write(REPORT, (&raw const report).cast(), REPORT_BYTES);
    }
}

fn failed(step: Step) -> Report {
    failed_of(step, &io::Error::last_os_error())
}

fn failed_of(step: Step, error: &io::Error) -> Report {
    Report {
        kind: FAILED,
        value: step as i32,
        errno: error.raw_os_error().unwrap_or(0),
        ..Report::default()
    }
}

/// `0` is good, as most system calls mean it.
fn check(step: Step, result: c_int) -> Result<(), Report> {
    match result {
        0 => Ok(()),
        _ => Err(failed(step)),
    }
}

fn confined(plan: &Plan<'_>, fds: [RawFd; INIT_FDS]) -> Result<(), Report> {
    descriptors(fds).ok_or_else(|| failed(Step::Descriptors))?;
    forget_signals();
    let limits = plan.confines.apply(plan.root.processes_max);
    limits.map_err(|error| failed_of(Step::Limits, &error))?;
    mounts(plan)?;
    // SAFETY: plain system calls on memory that outlives them.
    unsafe {
        check(Step::Folder, libc::chdir(plan.directory.as_ptr()))?;
        // Where a service manager forbids it (systemd's ProtectHostname), a compile
        // sees what the machine is called, and no more.
        libc::sethostname(HOSTNAME.as_ptr().cast(), HOSTNAME.len());
    }
    if let Some(user) = plan.user {
        privileges::become_user(user).map_err(|error| failed_of(Step::User, &error))?;
    }
    let dropped = privileges::drop_capabilities();
    dropped.map_err(|error| failed_of(Step::Capabilities, &error))?;
    // After the last change of user, which would undo it.
    privileges::die_with_parent().map_err(|error| failed_of(Step::Parent, &error))?;
    if worker_is_gone() {
        // SAFETY: nobody is left to hear of it.
        unsafe { libc::_exit(127) }
    }
    // SAFETY: a plain system call. This memory is a copy of the worker's: nobody is
    // to look into it. A program that is started here gets memory of its own.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0 as c_ulong, 0, 0, 0) };
    let filtered = plan.root.filter.install();
    filtered.map_err(|error| failed_of(Step::Filter, &error))
}

/// Puts what init needs where it is looked for, waits until its user is mapped and
/// closes all else: pipes of other compiles would stay open here.
fn descriptors(fds: [RawFd; INIT_FDS]) -> Option<()> {
    // SAFETY: plain system calls on numbers; `byte` is ours.
    unsafe {
        libc::setpgid(0, 0);
        let mut high = [0; INIT_FDS];
        for (place, fd) in high.iter_mut().zip(fds) {
            // Out of the way of those that are about to be taken.
            *place = libc::fcntl(fd, libc::F_DUPFD, 16);
            if *place < 0 {
                return None;
            }
        }
        for (at, fd) in (0..).zip(high) {
            if libc::dup2(fd, at) < 0 {
                return None;
            }
        }
        // The compiler has neither: they close as it starts.
        libc::fcntl(REPORT, libc::F_SETFD, libc::FD_CLOEXEC);
        libc::fcntl(GO, libc::F_SETFD, libc::FD_CLOEXEC);
        let first = INIT_FDS as c_int;
        if libc::syscall(libc::SYS_close_range, first, c_int::MAX, 0) != 0 {
            for fd in first..FDS_MAX {
                libc::close(fd);
            }
        }
        let mut byte = 0u8;
        (libc::read(GO, (&raw mut byte).cast(), 1) == 1).then_some(())
    }
}

/// Handlers and blocked signals are the worker's.
fn forget_signals() {
    // SAFETY: all zeros is the default action and the empty set.
    unsafe {
        let default: libc::sigaction = std::mem::zeroed();
        for signal in 1..=64 {
            // Some can't be changed.
            libc::sigaction(signal, &default, std::ptr::null_mut());
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
    }
}

/// Builds the root, moves into it and lets go of the old one.
fn mounts(plan: &Plan<'_>) -> Result<(), Report> {
    let null = std::ptr::null();
    let place = plan.place.as_ptr();
    let here = c".".as_ptr();
    let again = libc::MS_REMOUNT | libc::MS_BIND;
    // SAFETY: plain system calls on memory that outlives them.
    unsafe {
        let private = libc::MS_REC | libc::MS_PRIVATE;
        check(
            Step::Mounts,
            libc::mount(null, c"/".as_ptr(), null, private, null.cast()),
        )?;
        let skeleton = plan.skeleton.as_ptr();
        check(
            Step::Root,
            libc::mount(skeleton, place, null, libc::MS_BIND, null.cast()),
        )?;
        check(Step::Root, libc::chdir(place))?;
        // Outer folders first; the toolchain's files may lie in one of the task's.
        for mount in &plan.own {
            bind(mount).map_err(|()| failed(Step::Task))?;
        }
        let mounts = plan.root.mounts.iter().zip(&plan.without);
        for (at, (mount, _)) in mounts.enumerate().filter(|(_, (_, without))| !**without) {
            bind(mount).map_err(|()| Report {
                mount: at as i32,
                ..failed(Step::File)
            })?;
        }
        let flags =
            again | plan.skeleton_flags | libc::MS_RDONLY | libc::MS_NOSUID | libc::MS_NODEV;
        check(
            Step::Root,
            libc::mount(null, here, null, flags, null.cast()),
        )?;
        // The old root comes to lie over the new one, and is taken away.
        let pivoted = libc::syscall(libc::SYS_pivot_root, here, here);
        check(Step::Pivot, pivoted as c_int)?;
        check(Step::Pivot, libc::umount2(here, libc::MNT_DETACH))
    }
}

/// Mounts it where we are; errno says why not.
fn bind(mount: &Mount) -> Result<(), ()> {
    let null = std::ptr::null();
    let (source, target) = (mount.source.as_ptr(), mount.target.as_ptr());
    let flags = libc::MS_REMOUNT | libc::MS_BIND | mount.flags;
    // SAFETY: plain system calls on memory that outlives them.
    let bound = unsafe {
        libc::mount(source, target, null, mount.bind, null.cast()) == 0
            && libc::mount(null, target, null, flags, null.cast()) == 0
    };
    bound.then_some(()).ok_or(())
}

/// Whether the report has no reader: the worker ended before we asked to end with
/// it.
fn worker_is_gone() -> bool {
    let mut report = libc::pollfd {
        fd: REPORT,
        events: 0,
        revents: 0,
    };
    // SAFETY: one descriptor is asked about, and no time is waited.
    unsafe { libc::poll(&mut report, 1, 0) > 0 && report.revents & libc::POLLERR != 0 }
}

/// As stacks have to lie.
#[repr(align(16))]
struct Stack([MaybeUninit<u8>; STACK_BYTES]);

/// Starts the compiler and waits for its end.
fn compiler(plan: &Plan<'_>) -> Report {
    let mut stack = Stack([MaybeUninit::uninit(); STACK_BYTES]);
    // SAFETY: init stands still until the child, which has a stack of its own, ended or
    // has memory of its own; what it writes before is nothing that init reads later.
    let pid = unsafe {
        libc::clone(
            run,
            stack.0.as_mut_ptr_range().end.cast(),
            libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD,
            (&raw const *plan).cast_mut().cast(),
        )
    };
    if pid < 0 {
        return failed(Step::Fork);
    }
    // SAFETY: plain system calls; the places are ours for the calls.
    unsafe {
        // A pipe is at its end when those who compile are.
        for fd in 0..REPORT {
            libc::close(fd);
        }
        loop {
            let mut status = 0;
            let mut usage: libc::rusage = std::mem::zeroed();
            let ended = libc::wait4(-1, &mut status, 0, &mut usage);
            if ended == pid {
                return ended_as(status, &usage);
            }
            if ended < 0 && io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
                return failed(Step::Fork);
            }
        }
    }
}

fn ended_as(status: c_int, usage: &libc::rusage) -> Report {
    // The fields' widths differ between systems.
    #[allow(clippy::unnecessary_cast)]
    let us = |time: libc::timeval| time.tv_sec as u64 * 1_000_000 + time.tv_usec as u64;
    Report {
        kind: ENDED,
        value: status,
        user_us: us(usage.ru_utime),
        system_us: us(usage.ru_stime),
        #[allow(clippy::unnecessary_cast)]
        peak_bytes: usage.ru_maxrss as u64 * 1024,
        ..Report::default()
    }
}

/// Process 2: becomes the compiler, or tries to break out in its stead.
extern "C" fn run(plan: *mut c_void) -> c_int {
    // SAFETY: `compiler` gives its plan. Plain system calls; the arrays end with a null
    // each.
    unsafe {
        let plan = &*plan.cast::<Plan<'_>>();
        if let Some(targets) = plan.escape {
            let reached = escape::attempt(targets).to_ne_bytes();
            libc::write(1, reached.as_ptr().cast(), reached.len());
            libc::_exit(0);
        }
        libc::execve(
            plan.program.as_ptr(),
            plan.arguments.as_ptr(),
            plan.environment.as_ptr(),
        );
        tell(failed(Step::Exec));
        libc::_exit(127)
    }
}

/// Why this machine may have no namespaces for us, for people.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_network_of_all_compiles_is_empty_and_not_ours() {
        let of_thread = || fs::read_link(NETWORK).unwrap();
        let ours = of_thread();
        let Some(network) = Network::empty() else {
            eprintln!("skipped: this user may not make a network beforehand");
            return;
        };
        assert_eq!(of_thread(), ours);
        let look = move || {
            enter(&network.nowhere).unwrap();
            let links = fs::read_to_string("/proc/thread-self/net/dev").unwrap();
            let theirs = of_thread();
            enter(&network.here).unwrap();
            (links, theirs, of_thread())
        };
        let (links, theirs, back) = thread::spawn(look).join().unwrap();
        assert_ne!(theirs, ours);
        assert_eq!(back, ours);
        let links: Vec<_> = links.lines().skip(2).map(str::trim).collect();
        assert!(links[0].starts_with("lo:") && links.len() == 1, "{links:?}");
    }

    #[test]
    fn every_step_has_its_words() {
        for (at, (step, words)) in STEPS.iter().enumerate() {
            assert_eq!(*step as usize, at);
            assert!(!words.is_empty());
        }
        assert_eq!(TASK, "/task");
    }
}
