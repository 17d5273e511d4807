//! Every command in README.md, CONTRIBUTING.md and docs/, run as it is written: in a
//! network namespace with the ports and the host name of the pages, and real programs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hg_tests::command::{run_within, scrubbed};
use hg_tests::programs::programs;
use hg_tests::{in_path, skip};

/// What one page may take, with a build in it.
const PAGE_TIME_MAX: Duration = Duration::from_secs(240);

fn checkout() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// README.md, CONTRIBUTING.md and what is in docs/.
fn pages() -> Vec<PathBuf> {
    let mut pages: Vec<PathBuf> = fs::read_dir(checkout().join("docs"))
        .expect("docs/")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    pages.sort();
    pages.insert(0, checkout().join("CONTRIBUTING.md"));
    pages.insert(0, checkout().join("README.md"));
    pages
}

/// Lines of blocks for a shell, without what a comment says of them.
fn commands(page: &Path) -> Vec<String> {
    let text = fs::read_to_string(page).expect("a page");
    let blocks = text.split("```sh\n").skip(1);
    let blocks = blocks.filter_map(|rest| rest.split("```").next());
    let lines = blocks.flat_map(str::lines);
    let lines = lines.map(|line| line.split(" #").next().unwrap_or(line).trim());
    lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect()
}

/// These take minutes, and this test is run by one: what they name is there.
fn check_cargo(line: &str) {
    let manifest = |path: &str| fs::read_to_string(checkout().join(path)).expect("a manifest");
    let words: Vec<&str> = line.split_whitespace().collect();
    let value = |flag: &str| {
        let at = words.iter().position(|word| *word == flag)?;
        words.get(at + 1).copied()
    };
    match words[1] {
        "demo" => assert!(manifest(".cargo/config.toml").contains("demo = "), "{line}"),
        "test" | "build" | "run" => {}
        _ => panic!("{line}: what is that?"),
    }
    if let Some(package) = value("-p") {
        let named = format!("name = \"{package}\"");
        let members = ["proto", "coord", "worker-lite", "client", "tests"];
        let mut manifests = members
            .map(|member| manifest(&format!("{member}/Cargo.toml")))
            .into_iter();
        assert!(manifests.any(|text| text.contains(&named)), "{line}");
    }
    if let Some(binary) = value("--bin") {
        let named = format!("name = \"{binary}\"");
        assert!(manifest("tests/Cargo.toml").contains(&named), "{line}");
    }
    let benchmark = line.split_once("--bin bench -- ").map(|(_, rest)| rest);
    if let Some(name) = benchmark.and_then(|rest| rest.split_whitespace().next()) {
        let bench = checkout().join("tests/bench");
        let is_there = bench.join(name).is_dir() || bench.join(format!("{name}.rs")).is_file();
        assert!(is_there, "{line}");
    }
    if let Some(profile) = value("--profile") {
        let named = format!("[profile.{profile}]");
        assert!(manifest("Cargo.toml").contains(&named), "{line}");
    }
}

/// Spans of code in the sentences and tables of a page, each in one line.
fn spans(page: &Path) -> Vec<String> {
    let text = fs::read_to_string(page).expect("a page");
    let prose = text.split("```").step_by(2);
    let spans = prose.flat_map(|prose| prose.split('`').skip(1).step_by(2).map(str::to_owned));
    let in_one_line = |span: String| span.split_whitespace().collect::<Vec<_>>().join(" ");
    spans.map(in_one_line).collect()
}

/// What a program, or one of its subcommands, says to `--help`.
fn help(program: &Path, command: &[&str]) -> String {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut asked = scrubbed(program, folder.path(), folder.path());
    let outcome = run_within(asked.args(command).arg("--help"), PAGE_TIME_MAX);
    assert!(outcome.ok(), "{command:?}: {}", outcome.words());
    String::from_utf8_lossy(&outcome.stdout).into_owned()
}

/// Subcommands and options in `span`, a command of `program`, are in its `--help`.
fn check_words(program: &Path, span: &str) {
    let words: Vec<&str> = span.split_whitespace().skip(1).collect();
    let mut command: Vec<&str> = Vec::new();
    let mut said = help(program, &command);
    for word in words {
        let is_listed = |mark: &str| {
            let mut lines = said.lines().map(str::trim_start);
            lines.any(|line| line.starts_with(&format!("{mark} ")) || line == mark)
        };
        let (name, _) = word.split_once('=').unwrap_or((word, ""));
        let commands = said.split_once("\nCommands:").map(|(_, rest)| rest);
        let is_command = commands.is_some_and(|rest| rest.contains(&format!("\n  {word} ")));
        match word {
            _ if is_command => {
                command.push(word);
                said = help(program, &command);
            }
            "--" => return,
            _ if name.starts_with("--") => assert!(is_listed(name), "{span}: no {name}"),
            _ if name.starts_with('-') => assert!(is_listed(&format!("{name},")), "{span}"),
            // A compiler or a build, whose words are its own; or a value.
            _ if command.is_empty() => return,
            _ => {}
        }
    }
}

#[test]
fn commands_in_sentences_are_as_the_programs_have_them() {
    let programs = programs();
    let mut checked = 0;
    let security = checkout().join("SECURITY.md");
    for span in pages()
        .iter()
        .chain([&security])
        .flat_map(|page| spans(page))
    {
        let program = match span.split_whitespace().next() {
            Some("hgbuild") => &programs.client,
            Some("hg-coord") => &programs.coordinator,
            Some("hg-worker-lite") => &programs.worker,
            Some("cargo") if span.contains(' ') => {
                check_cargo(&span);
                checked += 1;
                continue;
            }
            _ => continue,
        };
        check_words(program, &span);
        checked += 1;
    }
    assert!(checked > 40, "{checked} commands");
}

/// The three machines of the pages, and functions for what a reader does beside typing.
const AROUND: &str = r#"
set -eu
ip link set lo up
printf '127.0.0.1 localhost build.lan\n' > "$PLACE/hosts"
mount --bind "$PLACE/hosts" /etc/hosts
mkfifo "$PLACE/said"
# Tokens that a coordinator leaves for its own user.
own=/tmp/hybridgrid-$(id -u)
mkdir -p "$own"
mount -t tmpfs -o mode=700 none "$own"
daemons=
trap 'for daemon in $daemons; do kill "$daemon" 2>/dev/null || :; done; wait' EXIT
at() { machine=$1; shift; HOME=$PLACE/$machine "$@"; }
# Runs on, and has said where it listens. One of a name at a time.
daemon() {
    name=$1; machine=$2; shift 2
    eval "last=\${$name:-}"
    if [ -n "$last" ]; then kill "$last" 2>/dev/null || :; wait "$last" || :; fi
    (HOME=$PLACE/$machine exec "$@") > "$PLACE/said" 2> "$PLACE/$name.log" 3>&- &
    eval "$name=$!"
    daemons="$daemons $!"
    read -r _ < "$PLACE/said"
}
linked() { until grep -q 'linked as' "$PLACE/worker.log"; do sleep 0.1; done; }
back() { [ -z "${worker:-}" ] || until hgbuild workers --json | grep -q digest; do sleep 0.1; done; }
# What a reader has configured before.
configured() { [ -f "out/$1" ] || { rm -rf out; cmake -G "$2" -S . -B out; }; }
export HOME="$PLACE/dev"
exec 3>&1
"#;

/// As it is typed, for the script: on which machine, and what comes by stdin or stays.
fn scripted(line: &str) -> String {
    let line = line.replace("WORKER", "pi3");
    let role = |line: &str| {
        let others = ["worker", "viewer"].into_iter();
        let mut named = others.filter(|role| line.contains(role));
        named.next().unwrap_or("client")
    };
    match line.split_whitespace().collect::<Vec<_>>()[..] {
        ["hg-coord", "serve", ..] => format!("daemon coord build {line}\nback"),
        ["hg-worker-lite", "serve", ..] => format!("daemon worker pi3 {line} --name pi3\nlinked"),
        ["hg-coord", "token", ..] => {
            format!("at build {line} > \"$PLACE/{}.token\"", role(&line))
        }
        ["hg-coord", "drain", "--stay", ..] => {
            format!("at build {line}\nat build hg-coord readmit pi3")
        }
        ["hg-coord", "drain", ..] => {
            // Whoever comes after it wants the worker again.
            format!("at build {line}\ndaemon worker pi3 hg-worker-lite serve --name pi3\nlinked")
        }
        // None was put out.
        ["hg-coord", "readmit", ..] => format!("! at build {line}"),
        ["hg-coord", ..] => format!("at build {line}"),
        ["hg-worker-lite", "join", ..] => {
            format!("at pi3 {line} < \"$PLACE/worker.token\"")
        }
        ["hgbuild", "join", ..] => format!("at dev {line} < \"$PLACE/client.token\""),
        ["meson", ..] | [_, _, _, _, "meson", ..] if in_path("meson").is_none() => {
            skip(&line, "no meson");
            "mkdir -p out; printf 'rule r\\n command = true\\nbuild all: r\\n' > out/build.ninja"
                .into()
        }
        [_, _, "ccache", ..] if in_path("ccache").is_none() => {
            skip(&line, "no ccache");
            ":".into()
        }
        ["cmake", "-S", ..] | [_, _, _, _, "meson", ..] => format!("rm -rf out\n{line}"),
        ["hgbuild", "cmake", ..] => format!("configured Makefile 'Unix Makefiles'\n{line}"),
        [.., "ninja", "-C", _] => format!("configured build.ninja Ninja\n{line}"),
        _ => line,
    }
}

/// What the pages build.
fn write_project(folder: &Path) {
    let write = |name: &str, text: &str| fs::write(folder.join(name), text).expect(name);
    write(
        "foo.c",
        "#include <stdio.h>\nint main(void) { return puts(\"hello\") < 0; }\n",
    );
    write(
        "Makefile",
        "CC ?= gcc\nfoo: foo.o\n\t$(CC) -o $@ $^\n.PHONY: again\nfoo.o: foo.c again\nagain:\n",
    );
    write(
        "CMakeLists.txt",
        "cmake_minimum_required(VERSION 3.10)\nproject(foo C)\nadd_executable(foo foo.c)\n",
    );
    write(
        "meson.build",
        "project('foo', 'c', 'cpp')\nexecutable('foo', 'foo.c')\n",
    );
    // Stands for one that autoconf makes: tries the compiler, and writes the makefile.
    write(
        "configure",
        "#!/bin/sh\nset -e\nfor word; do case $word in CC=*) CC=${word#CC=};; esac; done\necho 'int x;' > conftest.c\n$CC -c conftest.c\nprintf 'foo: foo.c\\n\\t%s -c foo.c\\n\\t%s -o foo foo.o\\n' \"$CC\" \"$CC\" > Makefile\n",
    );
    write("build.sh", "#!/bin/sh\ngcc -O1 -c foo.c -o built.o\n");
    for script in ["configure", "build.sh"] {
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(folder.join(script), mode).expect(script);
    }
}

#[test]
fn commands_of_the_pages_run() {
    let needed = ["unshare", "ip", "mount", "make", "cmake", "ninja", "clang"];
    let lacking = needed.into_iter().find(|tool| in_path(tool).is_none());
    let why = match lacking {
        Some(tool) => Some(format!("no {tool}")),
        None if !nix::unistd::geteuid().is_root() => Some("not root".into()),
        None => None,
    };
    let set_up: Vec<String> = commands(&checkout().join("README.md"))
        .into_iter()
        .filter(|line| line.contains("build.lan") || line.starts_with("hg-"))
        .collect();
    assert!(set_up.len() >= 6, "{set_up:?}");
    let mut ran = 0;
    for page in pages() {
        let (cargo, lines): (Vec<_>, Vec<_>) = commands(&page).into_iter().partition(|line| {
            ["cargo ", ".ci/", "tests/"]
                .iter()
                .any(|of| line.starts_with(of))
        });
        for line in cargo {
            match line.starts_with("cargo ") {
                true => check_cargo(&line),
                false => assert!(checkout().join(&line).is_file(), "{line}"),
            }
        }
        ran += lines.len();
        if why.is_none() && !lines.is_empty() {
            run_page(&page, &set_up, &lines);
        }
    }
    assert!(ran > 30, "{ran} commands");
    if let Some(why) = why {
        skip("commands of the pages", &why);
    }
}

/// In a grid that stands as README.md says, unless this is that page.
fn run_page(page: &Path, set_up: &[String], lines: &[String]) {
    let place = tempfile::tempdir().expect("a temporary folder");
    let project = place.path().join("project");
    for folder in ["project", "build", "pi3", "dev"] {
        fs::create_dir(place.path().join(folder)).expect("a folder");
    }
    write_project(&project);
    let is_readme = page.ends_with("README.md");
    let set_up = set_up.iter().filter(|_| !is_readme);
    let mut script = AROUND.to_owned();
    for line in set_up.chain(lines) {
        script += &format!("echo '$ '{} >&3\n{}\n", quoted(line), scripted(line));
    }
    let path = place.path().join("script");
    fs::write(&path, &script).expect("a script");
    let folder = programs().client.parent().expect("a folder");
    let old = std::env::var_os("PATH").unwrap_or_default();
    let mut shell = scrubbed("unshare", &project, place.path());
    shell
        .args(["-n", "-m", "sh"])
        .arg(&path)
        .env("PLACE", place.path())
        .env(
            "PATH",
            format!("{}:{}", folder.display(), old.to_string_lossy()),
        )
        .env_remove("HG_CACHE_MAX_SIZE")
        .env("HG_EVENT_LOG", place.path().join("events"))
        .env("HG_LOCAL_SLOTS", "0");
    let outcome = run_within(&mut shell, PAGE_TIME_MAX);
    let words = outcome.words();
    let logs = ["coord.log", "worker.log"]
        .map(|log| fs::read_to_string(place.path().join(log)).unwrap_or_default());
    assert!(
        outcome.ok(),
        "{}: {words}\n{}",
        page.display(),
        logs.concat()
    );
    if is_readme {
        let events = fs::read_to_string(place.path().join("events")).expect("events");
        assert!(
            events.contains("\"where\":\"remote\""),
            "{events}{}",
            logs.concat()
        );
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
