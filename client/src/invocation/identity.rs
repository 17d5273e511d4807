//! The identity of a compile, beside the content of files: the compiler by its content,
//! the command line, the working directory and the environment.

use std::env;

use hg_proto::compiler::probe::Probe;
use hg_proto::options::args::{self, Argument, Compile, Dialect, Language};
use hg_proto::options::row::{File, Role};
use memchr::memmem;

use crate::key::Key;
use crate::local::compiler::Found;
use crate::os;

/// Variables beside those that travel, which change what a compiler reads.
const VARIABLES: [&str; 11] = [
    "CPATH",
    "CPLUS_INCLUDE_PATH",
    "C_INCLUDE_PATH",
    "GCC_URLS",
    "LLVM_OVERRIDE_PRODUCER",
    "TERM_URLS",
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "LIBRARY_PATH",
    "OBJC_INCLUDE_PATH",
    "OBJCPLUS_INCLUDE_PATH",
];

/// Variables of lists of folders in which a driver looks for what it runs and loads.
const PROGRAMS: [&str; 6] = [
    "PATH",
    "COMPILER_PATH",
    "GCC_EXEC_PREFIX",
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "LIBRARY_PATH",
];
/// The part of a key that says in which folder it holds.
const DIRECTORY: &str = "directory";
/// Options with a path that is looked up as it is spelled, wherever the compile runs.
const FOLLOWED: [&str; 6] = [
    "-I",
    "-iquote",
    "-isystem",
    "-idirafter",
    "-include",
    "-imacros",
];

/// The identity of a compiler for one language.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Digest of all that makes the compiler's code.
    pub digest: Vec<u8>,
    /// Digest of what the compiler found around itself.
    pub surroundings: Vec<u8>,
}

impl Identity {
    /// The identity of the compiler that was probed; `None`: not for this language.
    pub fn of(probe: &Probe, language: Language) -> Option<Self> {
        Some(Identity {
            digest: probe.toolchain(language)?.digest,
            surroundings: probe.surroundings.as_bytes().to_vec(),
        })
    }
}

/// The key of a compile in the cache, beside the content of files. Where what is made can
/// name neither the folder nor its own name, these are no part of it.
pub fn key(found: &Found, compile: &Compile, dialect: Dialect, toolchain: &Identity) -> Key {
    let mut key = compiler(found, compile, dialect, toolchain);
    let placeless = is_placeless(compile);
    if !placeless {
        directory(&mut key);
    }
    let counts = |argument: &&Argument| !placeless || !names_output_alone(compile, argument);
    for argument in compile.arguments.iter().filter(counts) {
        for word in &argument.words {
            key.add("argument", word);
        }
    }
    environment(&mut key);
    key
}

/// The key that takes the place of `key` once what is made is found to name the folder all
/// the same; `None`: it is of the folder already.
pub fn key_in_folder(key: &Key) -> Option<Key> {
    if key.parts().iter().any(|part| part.what == DIRECTORY) {
        return None;
    }
    let mut key = key.clone();
    directory(&mut key);
    Some(key)
}

/// Whether the compile makes the same in another folder where files of the same names have
/// the same content. What may travel as a text is compiled in a folder, and to an object,
/// of other names on workers too.
fn is_placeless(compile: &Compile) -> bool {
    if compile.travel.is_err() || !compile.side_outputs().is_empty() {
        return false;
    }
    let Ok(folder) = env::current_dir() else {
        return false;
    };
    let folder = memmem::Finder::new(os::bytes(folder.as_os_str()));
    let names = |word: &Vec<u8>| folder.find(word).is_some();
    let fits = |argument: &Argument| {
        let is_followed = argument.file == File::None
            || argument.value().starts_with(b"/")
            || matches!(
                argument.role,
                Role::Source | Role::Output | Role::Dependency
            )
            || FOLLOWED.contains(&argument.spelling());
        is_followed && !argument.words.iter().any(names)
    };
    compile.arguments.iter().all(fits) && PROGRAMS.iter().all(|name| is_absolute_list(name))
}

/// Whether `argument` says nothing but where an output goes: the compile writes it there,
/// and the other one's result says nothing of it.
fn names_output_alone(compile: &Compile, argument: &Argument) -> bool {
    match argument.role {
        // Without a target of its own the rule in the dependency file names the object.
        Role::Output => {
            let mut dependencies = compile.dependencies.iter();
            dependencies.all(|dependencies| dependencies.explicit_target)
        }
        Role::Dependency => argument.spelling() == "-MF",
        _ => false,
    }
}

/// Whether every folder in the list that variable `name` holds is an absolute one.
fn is_absolute_list(name: &str) -> bool {
    let value = env::var_os(name).unwrap_or_default();
    let mut folders = os::bytes(&value).split(|byte| *byte == b':');
    value.is_empty() || folders.all(|folder| folder.starts_with(b"/"))
}

/// The part of the key that says which compiler it is, by content and by name.
pub fn compiler(found: &Found, compile: &Compile, dialect: Dialect, toolchain: &Identity) -> Key {
    let mut key = Key::default();
    key.add("compiler", &toolchain.digest);
    key.add("surroundings", &toolchain.surroundings);
    key.add("driver", os::bytes(found.driver.as_os_str()));
    key.add("name", os::bytes(&found.command.arg0));
    key.add("language", compile.language.name().as_bytes());
    key.add("family", dialect.family.name().as_bytes());
    key
}

/// Adds the working directory, and how compilers write it down: by what they believe of
/// `$PWD`, so that a build below `make -C` finds what one in its folder kept.
pub fn directory(key: &mut Key) {
    let folder = env::current_dir().unwrap_or_default();
    key.add(DIRECTORY, os::bytes(folder.as_os_str()));
    if env::var_os("PWD").is_some_and(|pwd| pwd != folder)
        && let Some(pwd) = os::pwd()
    {
        key.add("environment PWD", os::bytes(&pwd));
    }
}

/// Adds the variables that a compiler reads.
pub fn environment(key: &mut Key) {
    let mut variables: Vec<_> = env::vars_os()
        .filter(|(name, _)| {
            let name = os::bytes(name);
            args::environment_travels(name) || VARIABLES.iter().any(|v| v.as_bytes() == name)
        })
        .collect();
    variables.sort();
    for (name, value) in variables {
        let what = format!("environment {}", name.to_string_lossy());
        key.add(&what, os::bytes(&value));
    }
}

/// The key of a compiler's search path for headers, beside its options.
pub fn basis(found: &Found, toolchain: &Identity) -> Vec<u8> {
    let mut key = Key::default();
    key.add("compiler", &toolchain.digest);
    key.add("surroundings", &toolchain.surroundings);
    key.add("driver", os::bytes(found.driver.as_os_str()));
    for name in VARIABLES {
        let value = env::var_os(name);
        key.add(name, &[u8::from(value.is_some())]);
        key.add(name, os::bytes(&value.unwrap_or_default()));
    }
    key.digest().to_vec()
}
