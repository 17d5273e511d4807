//! The identity of a compile, beside the content of files: the compiler by its content,
//! the command line, the working directory and the environment.

use std::env;

use hg_proto::compiler::probe::Probe;
use hg_proto::options::args::{self, Compile, Dialect, Language};

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

/// The key of a compile in the cache, beside the content of files.
pub fn key(found: &Found, compile: &Compile, dialect: Dialect, toolchain: &Identity) -> Key {
    let mut key = compiler(found, compile, dialect, toolchain);
    directory(&mut key);
    for argument in &compile.arguments {
        for word in &argument.words {
            key.add("argument", word);
        }
    }
    environment(&mut key);
    key
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
    key.add("directory", os::bytes(folder.as_os_str()));
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
