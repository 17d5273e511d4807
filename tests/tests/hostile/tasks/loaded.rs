//! Files of a task at paths that loaders, drivers and libc read code or options from.
//! Coordinator and worker refuse such paths; and past both, nothing that a task brings
//! can be run.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;

use hg_proto::v1::failure::Code;
use hg_tests::command::{run, scrubbed};
use hg_worker_lite::inputs::layout::{Layout, Tools};
use hg_worker_lite::inputs::tree::{Tree, Trees};
use hg_worker_lite::sandbox::facade::{Isolation, Launch, TaskFolder};

use super::ground::{self, Ground, limits};
use super::{HARMLESS, Target, WALL_MS_MAX, compilers, fill, sandbox, tree_order};

/// What the payload says when it runs.
const RAN: &str = "payload_ran_93ab";
/// Says so as soon as it is loaded.
const PAYLOAD: &str = "\
#include <unistd.h>\n\
int plugin_is_GPL_compatible;\n\
void gconv_init(void) {}\n\
void gconv(void) {}\n\
__attribute__((constructor)) static void say(void) { write(2, \"payload_ran_93ab\\n\", 17); }\n";

/// A way to have the payload loaded.
struct Vector {
    driver: &'static str,
    /// Paths and contents, beside the payload at `/brought/x.so` and the source.
    files: Vec<(String, String)>,
    /// The payload itself is there.
    payload_at: String,
    arguments: &'static [&'static str],
}

fn vectors() -> Vec<Vector> {
    let mut all = Vec::new();
    for driver in ["gcc", "clang", "clang-19"] {
        all.push(Vector {
            driver,
            files: vec![("/etc/ld.so.preload".into(), "/brought/x.so\n".into())],
            payload_at: "/brought/x.so".into(),
            arguments: &[],
        });
    }
    // Below a folder that outputs are written in.
    all.push(Vector {
        driver: "gcc",
        files: vec![("/etc/ld.so.preload".into(), "/hostile/sub/x.so\n".into())],
        payload_at: "/hostile/sub/x.so".into(),
        arguments: &[],
    });
    for folder in said_by("gcc", "-print-search-dirs", "libraries: =") {
        let plugin =
            "*cc1:\n+ -fplugin=/brought/x.so\n\n*cc1_options:\n+ -fplugin=/brought/x.so\n\n";
        all.push(Vector {
            driver: "gcc",
            files: vec![(format!("{folder}/specs"), plugin.into())],
            payload_at: "/brought/x.so".into(),
            arguments: &[],
        });
    }
    for folder in said_by("gcc", "-print-search-dirs", "programs: =") {
        for program in ["as", "cc1"] {
            all.push(Vector {
                driver: "gcc",
                files: vec![(format!("{folder}/{program}"), "#!/brought/x.so\n".into())],
                payload_at: "/brought/x.so".into(),
                arguments: &[],
            });
        }
    }
    for driver in ["clang", "clang-19"] {
        let Ok(real) = Path::new("/usr/bin").join(driver).canonicalize() else {
            continue;
        };
        let folder = real.parent().unwrap_or(&real).display().to_string();
        for name in [
            "clang.cfg",
            "x86_64-pc-linux-gnu.cfg",
            "x86_64-pc-linux-gnu-clang.cfg",
        ] {
            all.push(Vector {
                driver,
                files: vec![(
                    format!("{folder}/{name}"),
                    "-fplugin=/brought/x.so\n".into(),
                )],
                payload_at: "/brought/x.so".into(),
                arguments: &[],
            });
        }
    }
    for folder in ["/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu"] {
        all.push(Vector {
            driver: "gcc",
            files: vec![(
                format!("{folder}/gconv/gconv-modules"),
                "module EVIL// INTERNAL ../../../../brought/x 1\nmodule INTERNAL EVIL// ../../../../brought/x 1\n".into(),
            )],
            payload_at: "/brought/x.so".into(),
            arguments: &["-finput-charset=EVIL"],
        });
    }
    all.push(Vector {
        driver: "gcc",
        files: vec![("/etc/nsswitch.conf".into(), "passwd: evil\n".into())],
        payload_at: "/usr/lib/x86_64-linux-gnu/libnss_evil.so.2".into(),
        arguments: &[],
    });
    for (driver, library) in [
        (
            "clang",
            "x86_64-linux-gnu/glibc-hwcaps/x86-64-v2/libLLVM-14.so.1",
        ),
        (
            "clang-19",
            "x86_64-linux-gnu/glibc-hwcaps/x86-64-v2/libLLVM.so.19.1",
        ),
        (
            "clang-19",
            "llvm-19/lib/glibc-hwcaps/x86-64-v2/libclang-cpp.so.19.1",
        ),
        ("clang-19", "llvm-19/lib/libffi.so.8"),
    ] {
        all.push(Vector {
            driver,
            files: vec![],
            payload_at: format!("/usr/lib/{library}"),
            arguments: &[],
        });
    }
    // An assembler of its own is looked for beside gccs, and in PATH.
    for assembler in [
        "/usr/lib/llvm-19/bin/as",
        "/usr/lib/llvm-19/bin/x86_64-pc-linux-gnu-as",
        "/usr/lib/gcc/x86_64-linux-gnu/12/../../../../x86_64-linux-gnu/bin/as",
    ] {
        let plain = hg_proto::wire::plain_path::plain(b"/", assembler.as_bytes());
        all.push(Vector {
            driver: "clang-19",
            files: vec![],
            payload_at: String::from_utf8(plain).expect("UTF-8"),
            arguments: &["-fno-integrated-as"],
        });
    }
    all
}

/// Folders that `driver` lists, each in one spelling.
fn said_by(driver: &str, option: &str, start: &str) -> Vec<String> {
    let here = Path::new("/");
    let said = run(scrubbed(Path::new("/usr/bin").join(driver), here, here).arg(option));
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let line = said.lines().find_map(|line| line.strip_prefix(start));
    let folders = line.unwrap_or_default().split(':');
    let mut plain: Vec<String> = folders
        .filter(|folder| folder.starts_with('/'))
        .map(|folder| {
            let plain = hg_proto::wire::plain_path::plain(b"/", folder.as_bytes());
            String::from_utf8(plain).expect("UTF-8")
        })
        .collect();
    plain.sort();
    plain.dedup();
    plain
}

/// The payload, which does run where it is loaded.
fn payload(ground: &Ground) -> Vec<u8> {
    let folder = ground.outside();
    std::fs::write(folder.join("payload.c"), PAYLOAD).expect("a file");
    let library = folder.join("payload.so");
    let mut make = scrubbed("gcc", &folder, &folder);
    let made = run(make.args(["-shared", "-fPIC", "-w", "-o", "payload.so", "payload.c"]));
    assert_eq!(made.code, Some(0), "{made:?}");
    let mut loaded = scrubbed("gcc", &folder, &folder);
    let said = run(loaded.arg("--version").env("LD_PRELOAD", &library));
    assert!(
        String::from_utf8_lossy(&said.stderr).contains(RAN),
        "{said:?}"
    );
    std::fs::read(library).expect("the payload")
}

#[test]
fn nothing_that_a_task_brings_is_loaded() {
    let what = "payloads of the tree form";
    let Some(ground) = super::ground(what) else {
        return;
    };
    let Some((sandbox, tasks)) = sandbox(what, &ground, Isolation::Full) else {
        return;
    };
    let payload = payload(&ground);
    let state = tasks.parent().expect("a state");
    let trees = Trees::open(state, 64 << 20, 1).expect("a store");
    let compilers = compilers();
    let mut tried = 0;
    for vector in vectors() {
        let Some((driver, files)) = compilers.get(vector.driver) else {
            continue;
        };
        let mut contents: Vec<(String, Vec<u8>)> = vec![
            ("/hostile/t.c".into(), HARMLESS.into()),
            (vector.payload_at.clone(), payload.clone()),
        ];
        let more = vector.files.iter().cloned();
        contents.extend(more.map(|(path, text)| (path, text.into_bytes())));
        let inputs = contents
            .iter()
            .map(|(path, content)| (&path[..], &content[..]));
        let order = tree_order(inputs, &["/hostile/t.o"]);
        let folder = TaskFolder::create(&tasks, "load").expect("a folder");
        let make = |layout: &Arc<Layout>| Tree::make(&trees, &order, layout, &folder.root());
        let tools = Tools::Own(files.clone());
        let tree = sandbox.with_tree_layout(&tools, make).expect("its files");
        // In a place of the worker's own it is refused at once.
        let Ok(mut tree) = tree else {
            continue;
        };
        let bytes: Vec<&[u8]> = contents.iter().map(|(_, content)| &content[..]).collect();
        fill(&mut tree, &order, &bytes);
        let mut launch = Launch::new(driver, &tools, &folder, Path::new("/hostile"), limits());
        launch.tree = Some(&tree);
        let words = ["-c", "t.c", "-o", "t.o"].iter().chain(vector.arguments);
        let words: Vec<String> = words.map(|word| (*word).to_owned()).collect();
        let ran = ground::run_launch(&sandbox, launch, &words, WALL_MS_MAX);
        let said = match &ran {
            Ok(ran) => String::from_utf8_lossy(&ran.stderr).into_owned(),
            Err(failure) => failure.detail.clone(),
        };
        let name = format!("{} {:?} {}", vector.driver, vector.files, vector.payload_at);
        assert!(!said.contains(RAN), "{name}: {said}");
        tried += 1;
    }
    assert!(tried > 5, "{tried} ways");
}

/// By its paths alone: no input of such a task is ever asked for.
#[test]
fn paths_that_are_read_by_others_are_refused() {
    let target = Target::new();
    if !target.takes_trees() {
        return;
    }
    let good = target.tree_task("gcc", HARMLESS).expect("a gcc");
    let (result, _) = target.submit(good.clone(), HARMLESS).expect("a compile");
    assert_eq!(result.exit_code, 0, "{result:?}");
    let refused = |task, path: &str| match target.submit(task, HARMLESS) {
        Ok(_) => panic!("{path}: it compiles"),
        Err(failure) => assert_eq!(failure.code(), Code::Refused, "{path}: {failure:?}"),
    };
    // One of each name, but of programs: what a task brings by these names can't be run.
    let mut names = BTreeSet::from([OsString::from("as"), "cc1".into()]);
    let mut paths: Vec<String> = Vec::new();
    for (path, _) in vectors().into_iter().flat_map(|vector| vector.files) {
        let name = Path::new(&path).file_name().unwrap_or_default();
        if names.insert(name.to_owned()) {
            paths.push(path);
        }
    }
    for path in [
        "/brought/x.so",
        "/lib64/libx.so.6",
        "/etc/passwd",
        "/usr/lib/locale/de_DE/LC_MESSAGES/gcc.mo",
        "/usr/share/locale/de/LC_MESSAGES/gcc.mo",
        "/usr/lib/locale/locale-archive",
        "/usr/share/terminfo/x/xterm",
        "/usr/lib/gcc/x86_64-linux-gnu/12/plugin/x.so",
    ] {
        paths.push(path.to_owned());
    }
    for path in paths {
        let mut task = good.clone();
        let mut input = task.inputs[0].clone();
        input.path.clone_from(&path.clone().into_bytes());
        task.inputs.push(input);
        refused(task, &path);
        let mut task = good.clone();
        task.outputs.push(path.clone().into_bytes());
        refused(task, &path);
    }
    let again = target.submit(good, HARMLESS).expect("a compile");
    assert_eq!(again.0.exit_code, 0);
}
