//! The ground on which hostile tasks are let loose: a canary file that nobody may
//! read, a folder that nobody may write, a listener that nobody may reach, and
//! programs that try all three as soon as they are loaded.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use hg_proto::v1::Failure;
use hg_worker_lite::inputs::layout::Tools;
use hg_worker_lite::sandbox::facade::{Isolation, Launch, ResourceLimits, Sandbox, TaskFolder};
use hg_worker_lite::sandbox::totals::Totals;
use hg_worker_lite::tasks::compile::{self, CompileError, CompilerOutput};
use hg_worker_lite::tasks::control::Control;
use tempfile::TempDir;

/// Whatever shows this has read the canary file.
pub const CANARY: &str = "canary_4f1d9c";
/// What is in that file: an option that no compiler knows, text that none compiles
/// and an instruction of no machine, so that it is quoted.
const SECRET: &str = "--canary_4f1d9c\ncanary_4f1d9c it\n";
/// Tries everything when it is loaded, and once more as a program that is told
/// what to do by its name.
const EVIL: &str = r#"
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
int plugin_is_GPL_compatible;
__attribute__((constructor)) static void strike(void) {
    char text[256];
    int secret = open(SECRET, O_RDONLY);
    ssize_t length = secret < 0 ? 0 : read(secret, text, sizeof text);
    if (length > 0) {
        int leak = open("leak", O_WRONLY | O_CREAT, 0644);
        write(leak, text, length);
        write(1, text, length);
    }
    close(open(OUTSIDE "/struck", O_WRONLY | O_CREAT, 0644));
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(PORT)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connect(socket(AF_INET, SOCK_STREAM, 0), (struct sockaddr *)&to, sizeof to);
}
/* A thread that shares all but its open files. */
static void begin_thread(int (*run)(void *), void *of) {
    char *stack = malloc(1 << 16);
    int shared = CLONE_VM | CLONE_FS | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;
    if (clone(run, stack + (1 << 16), shared, of) < 0) exit(10);
}
static int sleep_on(void *unused) {
    for (;;) pause();
}
static int take_memory(void *told) {
    char *all = malloc(400 << 20);
    if (all) memset(all, 7, 400 << 20);
    write(1, all ? "+" : "-", 1);
    write(((int *)told)[1], "", 1);
    return sleep_on(0);
}
static volatile int mib, is_done;
/* Four files, each shorter than one may be. */
static int make_files(void *how) {
    static char part[1 << 20];
    memset(part, 7, sizeof part);
    for (int at = 0; at < 4; at++) {
        char name[] = {'f', '0' + at, 0};
        int file = open(name, O_RDWR | O_CREAT, 0600);
        for (int now = 0; now < 125; now++) mib += write(file, part, sizeof part) == sizeof part;
        if (strcmp(how, "files") && strcmp(how, "passing")) unlink(name);
        if (!strcmp(how, "mapped")) {
            mmap(0, 4096, PROT_READ, MAP_SHARED, file, 0);
            close(file);
        }
    }
    is_done = 1;
    if (!strcmp(how, "apart")) sleep_on(0);
    return 0;
}
int main(int count, char **words) {
    const char *what = count > 1 ? words[1] : "";
    if (!strcmp(what, "fork")) {
        int children = 0;
        while (children < 5000 && fork() >= 0) {
            /* Each child forks on; who can't any more waits to be killed. */
            children++;
        }
        for (;;) pause();
    }
    if (!strcmp(what, "count")) {
        int children = 0, pid;
        while (children < 5000 && (pid = fork()) >= 0) {
            if (pid == 0) for (;;) pause();
            children++;
        }
        printf("%d\n", children);
        return 0;
    }
    if (!strcmp(what, "deep")) {
        int depth = 0;
        while (depth < 3000 && !mkdir("d", 0700) && !chdir("d")) depth++;
        printf("%d\n", depth);
        return 0;
    }
    if (!strcmp(what, "links")) {
        int made = !symlink(SECRET, "out.o") + !link(SECRET, "hard.o") + !mkfifo("pipe.o", 0600);
        printf("%d\n", made);
        return 0;
    }
    if (!strcmp(what, "signals")) {
        /* The worker, or in a namespace of their own anybody. */
        printf("%d\n", kill(getppid() == 1 ? -1 : getppid(), 0));
        return 0;
    }
    if (!strcmp(what, "session")) {
        if (fork() == 0) {
            setsid();
            if (fork() == 0) for (;;) pause();
            _exit(0);
        }
        wait(0);
        return 0;
    }
    if (!strcmp(what, "spoil")) {
        /* By every way that changes a file, or what is under its name. */
        int spoilt = 0;
        for (int at = 2; at < count; at++) {
            const char *path = words[at];
            struct timespec times[2] = {{1, 1}, {1, 1}};
            int read = open(path, O_RDONLY), written;
            if (read < 0) return 8;
            spoilt += !chmod(path, 0777);
            spoilt += !fchmod(read, 0777);
            written = open(path, O_WRONLY);
            spoilt += written >= 0 && write(written, "evil", 4) == 4;
            spoilt += open(path, O_RDWR | O_TRUNC) >= 0;
            spoilt += open(path, O_WRONLY | O_APPEND) >= 0;
            spoilt += !truncate(path, 0);
            spoilt += !utimensat(AT_FDCWD, path, times, 0);
            spoilt += !rename(path, "/task/tmp/mine");
            spoilt += !link(path, "/task/tmp/mine");
            spoilt += !unlink(path);
        }
        printf("%d\n", spoilt);
        return 0;
    }
    if (!strcmp(what, "memory") || !strcmp(what, "headless")) {
        /* Each has less than one process may have. */
        int told[2];
        char part[1];
        pipe(told);
        for (int child = 0; child < 4; child++) {
            if (fork() == 0) {
                if (*what == 'm') take_memory(told);
                begin_thread(take_memory, told);
                /* The other thread goes on. */
                syscall(SYS_exit, 0);
            }
        }
        for (int child = 0; child < 4; child++) read(told[0], part, 1);
        sleep(2);
        return 0;
    }
    if (strstr("files nameless mapped apart passing", what) && *what) {
        if (*what == 'p' && chdir(getenv("TMPDIR"))) return 9;
        if (*what == 'a') begin_thread(make_files, (void *)what);
        else make_files((void *)what);
        while (!is_done) usleep(1000);
        printf("%d\n", mib);
        fflush(stdout);
        sleep(*what == 'p' ? 0 : 2);
        return 0;
    }
    if (!strcmp(what, "many") || !strcmp(what, "passing-many")) {
        if (*what == 'p' && chdir(getenv("TMPDIR"))) return 9;
        int made = 0;
        for (int at = 0; at < 20000; at++) {
            char name[16];
            sprintf(name, "%d", at);
            int file = open(name, O_WRONLY | O_CREAT, 0600);
            made += file >= 0;
            close(file);
        }
        printf("%d\n", made);
        fflush(stdout);
        sleep(*what == 'p' ? 0 : 2);
        return 0;
    }
    if (!strcmp(what, "killed")) abort();
    return 7;
}
"#;

/// Bytes of memory of a compile in these tests.
pub const MEMORY_BYTES_MAX: u64 = 1 << 30;
/// Bytes of its files.
pub const FILE_BYTES_MAX: u64 = 256 << 20;

/// One attack on a compiler.
pub struct Row {
    /// For messages.
    pub name: &'static str,
    /// `gcc`, `g++` or `clang`.
    pub driver: &'static str,
    /// Ahead of the source and the object.
    pub arguments: Vec<String>,
    /// Instead of the harmless source.
    pub source: Option<String>,
    /// It is in the source: no table of arguments sees it.
    pub in_text: bool,
    /// Compilers believe that the file is empty, since its length is given as 0.
    pub toothless: bool,
}

impl Row {
    /// For messages.
    pub fn title(&self) -> String {
        format!("{}: {}", self.driver, self.name)
    }
}

/// The place, with everything on it.
pub struct Ground {
    place: TempDir,
    listener: TcpListener,
    before: BTreeSet<PathBuf>,
}

impl Ground {
    /// Builds the hostile programs with this machine's gcc.
    ///
    /// # Errors
    /// Words: there is none.
    pub fn new() -> Result<Ground, String> {
        let place = tempfile::tempdir().expect("a folder");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("a listener");
        let mut ground = Ground {
            place,
            listener,
            before: BTreeSet::new(),
        };
        let outside = ground.outside();
        for folder in ["", "bin", "usr/include", "state"] {
            fs::create_dir_all(outside.join(folder)).expect("a folder");
        }
        // Whoever a compile runs as, permissions are not what holds it.
        for folder in ["", "..", "bin"] {
            let mode = fs::Permissions::from_mode(0o777);
            fs::set_permissions(outside.join(folder), mode).expect("a mode");
        }
        fs::write(ground.secret(), SECRET).expect("a canary");
        let header = format!("const char *read_it = \"{CANARY}\";\n");
        fs::write(outside.join("usr/include/canary.h"), header).expect("a header");
        fs::write(outside.join("evil.specs"), specs()).expect("specs");
        let source = outside.join("evil.c");
        fs::write(&source, EVIL).expect("a source");
        let port = ground.listener.local_addr().expect("its address").port();
        for (output, more) in [("evil.so", &["-shared", "-fPIC"][..]), ("bin/as", &[])] {
            let status = Command::new("gcc")
                .args(more)
                .arg("-w")
                .arg(format!("-DSECRET=\"{}\"", ground.secret().display()))
                .arg(format!("-DOUTSIDE=\"{}\"", outside.display()))
                .arg(format!("-DPORT={port}"))
                .arg(&source)
                .arg("-o")
                .arg(outside.join(output))
                .status();
            match status {
                Ok(status) if status.success() => {}
                other => return Err(format!("no gcc that links here: {other:?}")),
            }
        }
        ground.before = files(&outside);
        Ok(ground)
    }

    /// Where nothing may appear.
    pub fn outside(&self) -> PathBuf {
        self.place
            .path()
            .canonicalize()
            .expect("a path")
            .join("outside")
    }

    /// What nobody may read.
    pub fn secret(&self) -> PathBuf {
        self.outside().join("canary")
    }

    /// The hostile program.
    pub fn program(&self) -> PathBuf {
        self.outside().join("bin/as")
    }

    /// A sandbox that holds its state on this ground, or why there is none.
    pub fn sandbox(&self, level: Isolation) -> Result<(Sandbox, PathBuf), String> {
        // Outside of the ground, and closed to others as a worker's is.
        let state = self.place.path().join(level.name());
        let tasks = state.join("tasks");
        fs::create_dir_all(&tasks).expect("a folder");
        Sandbox::proven(level, &state, &tasks).map(|sandbox| (sandbox, tasks))
    }

    /// Puts what attacks bring along into the task's folder.
    pub fn arm(&self, folder: &TaskFolder, source: &str) {
        let root = folder.root();
        let outside = self.outside();
        fs::create_dir(root.join("bin")).expect("a folder");
        for (from, to) in [
            ("evil.so", "evil.so"),
            ("bin/as", "evil"),
            ("bin/as", "bin/as"),
            ("evil.specs", "evil.specs"),
        ] {
            fs::copy(outside.join(from), root.join(to)).expect("a copy");
        }
        fs::write(root.join("evil.rsp"), "-fplugin=./evil.so").expect("a file");
        fs::write(root.join("t.c"), source).expect("a source");
    }

    /// What has got out since the last time this was asked.
    pub fn breaches(&self, folder: &TaskFolder, said: &[&[u8]]) -> Vec<String> {
        let mut found = Vec::new();
        let canary = CANARY.as_bytes();
        let shows = |bytes: &[u8]| bytes.windows(canary.len()).any(|at| at == canary);
        if said.iter().any(|bytes| shows(bytes)) {
            found.push("it says what it may not know".to_owned());
        }
        for file in files(folder.path()) {
            if fs::read(&file).is_ok_and(|bytes| shows(&bytes)) {
                found.push(format!("{} has it", file.display()));
            }
        }
        found.extend(self.struck());
        found
    }

    /// What was written outside, and whether somebody called.
    pub fn struck(&self) -> Vec<String> {
        let mut found = Vec::new();
        for file in files(&self.outside()).difference(&self.before) {
            found.push(format!("{} was written", file.display()));
            fs::remove_file(file).expect("a file to remove");
        }
        let canary = fs::read_to_string(self.secret());
        if canary.as_deref().ok() != Some(SECRET) {
            found.push("the canary is another".to_owned());
            fs::write(self.secret(), SECRET).expect("a canary");
        }
        if self.listener.accept().is_ok() {
            found.push("the listener was reached".to_owned());
            while self.listener.accept().is_ok() {}
        }
        found
    }
}

/// Leads the compiler to a plugin by its specs.
fn specs() -> &'static str {
    "*cc1_options:\n+ -fplugin=./evil.so\n\n"
}

/// All files below `folder`, links not followed.
fn files(folder: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => open.push(entry.path()),
                _ => drop(found.insert(entry.path())),
            }
        }
    }
    found
}

/// What a compile may use in these tests.
pub fn limits() -> ResourceLimits {
    ResourceLimits {
        memory_bytes_max: MEMORY_BYTES_MAX,
        file_bytes_max: FILE_BYTES_MAX,
        cpu_s_max: 60,
        nice: 0,
        totals: Totals::new(0, 0, MEMORY_BYTES_MAX, FILE_BYTES_MAX),
    }
}

/// Runs a program of `files` with `arguments` as a worker runs a compiler.
///
/// # Errors
/// It did not end by itself, or hit a limit.
pub fn run(
    sandbox: &Sandbox,
    folder: &TaskFolder,
    driver: &Path,
    files: &[PathBuf],
    arguments: &[String],
    wall_ms_max: u32,
) -> Result<CompilerOutput, Failure> {
    let tools = Tools::Own(files.to_vec());
    let launch = Launch::new(driver, &tools, folder, Path::new(""), limits());
    run_launch(sandbox, launch, arguments, wall_ms_max)
}

/// Runs `launch` with `arguments` as a worker runs a compiler.
///
/// # Errors
/// As [`run`].
pub fn run_launch(
    sandbox: &Sandbox,
    launch: Launch<'_>,
    arguments: &[String],
    wall_ms_max: u32,
) -> Result<CompilerOutput, Failure> {
    let driver = launch.driver;
    let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
    // Its own environment is the first that a compiler finds in /proc.
    let environment = [("A".into(), CANARY.into())];
    let mut launch: Launch<'_> = launch;
    launch.arguments = &arguments;
    launch.environment = &environment;
    let control = Control::new(0).expect("descriptors");
    compile::run(sandbox, &launch, wall_ms_max, false, &control, &|_| {}).map_err(|error| {
        match error {
            CompileError::Failed(failure) => failure,
            CompileError::Spawn(error) => panic!("{}: {error}", driver.display()),
        }
    })
}
