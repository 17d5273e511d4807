//! The table of settings: variables of the environment, their keys in `config.toml`, and
//! what they mean. `--help`, the manual page and docs/settings.md are made from it.

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Its variable.
    pub variable: &'static str,
    /// Its line in `config.toml`; empty: it has none.
    pub line: &'static str,
    /// A line of `--help`.
    pub meaning: &'static str,
    /// What docs/settings.md adds.
    pub more: &'static str,
}

const fn setting(
    variable: &'static str,
    line: &'static str,
    meaning: &'static str,
    more: &'static str,
) -> Setting {
    Setting {
        variable,
        line,
        meaning,
        more,
    }
}

/// All that people may set. What `hgbuild` tells the compilers of its own builds by the
/// environment is not here.
pub const SETTINGS: [Setting; 22] = [
    setting(
        "HG_COORDINATOR",
        "coordinator = \"HOST:PORT\"",
        "HOST:PORT of the grid (default: where it was joined, or mDNS finds it)",
        "none: every compile is local",
    ),
    setting(
        "HG_MDNS",
        "mdns = true",
        "0: a coordinator that is not where it was is not looked for",
        "see topologies.md",
    ),
    setting(
        "HG_TOKEN",
        "",
        "a join token, before the one that 'join' keeps",
        "that one is in `~/.hybridgrid/token`",
    ),
    setting("HG_TLS_CA", "tls_ca = \"FILE\"", "as --tls-ca", "PEM"),
    setting("HG_TLS_CERT", "tls_cert = \"FILE\"", "as --tls-cert", "PEM"),
    setting("HG_TLS_KEY", "tls_key = \"FILE\"", "as --tls-key", "PEM"),
    setting(
        "HG_INSECURE",
        "insecure = true",
        "1: as --insecure",
        "plaintext, no token",
    ),
    setting(
        "HG_LOCAL_SLOTS",
        "local_slots = 4",
        "compiles that could travel but may run here at once",
        "default: three quarters of the cores, and all of them for some seconds after the grid \
         was no faster than an idle core here; 0: all travel",
    ),
    setting(
        "HG_FALLBACK",
        "fallback = true",
        "0: as --no-fallback",
        "a failure of the grid is an error then",
    ),
    setting(
        "HG_QUEUE_MS_MAX",
        "queue_ms_max = 30000",
        "longest wait for a worker, in milliseconds",
        "",
    ),
    setting(
        "HG_SHIP",
        "ship = true",
        "0: workers that lack a compiler are not given it by themselves",
        "`hgbuild ship` still gives it",
    ),
    setting(
        "HG_STATUS_LINE",
        "status_line = true",
        "0: no line at the bottom of the terminal while a build runs",
        "there is none without a terminal, with TERM=dumb, and while a program reads single keys",
    ),
    setting(
        "HG_EVENT_LOG",
        "event_log = \"FILE\"",
        "a file that gets one JSON line for each compile",
        "",
    ),
    setting(
        "HG_LOG",
        "log = \"info\"",
        "how much is said on stderr: off, error, warn, info or debug",
        "",
    ),
    setting("HG_CC", "cc = \"gcc\"", "what 'hgbuild cc' stands for", ""),
    setting(
        "HG_CXX",
        "cxx = \"g++\"",
        "what 'hgbuild c++' stands for",
        "",
    ),
    setting(
        "HG_CACHE_DIR",
        "cache_dir = \"FOLDER\"",
        "where the cache lies (default: ~/.hybridgrid/cache)",
        "",
    ),
    setting(
        "HG_CACHE_MAX_SIZE",
        "cache_max_size = \"10GiB\"",
        "how large it may grow, as in 5GiB; 0: no cache",
        "",
    ),
    setting(
        "HG_BASE_DIR",
        "base_dir = \"FOLDER\"",
        "paths below it need only be the same relative to it",
        "more exactly: to the working folder",
    ),
    setting(
        "HG_RECACHE",
        "",
        "1: compile, and keep that in place of what was kept",
        "",
    ),
    setting(
        "HG_READONLY_CACHE",
        "",
        "1: take answers, keep nothing",
        "and count nothing",
    ),
    setting("HG_DISABLE", "", "1: just run the compiler", ""),
];

/// What `hgbuild` tells the compilers and builds that it starts, and nobody else sets.
pub const BETWEEN_OURSELVES: [&str; 8] = [
    "HG_BUILD",
    "HG_BUILD_PROGRAM",
    "HG_CACHE_WARNED",
    "HG_MASQUERADE",
    "HG_PASSED",
    "HG_RELAY",
    "HG_SUMMARY_LOG",
    "HG_TRACE_ID",
];

/// The variables and what they mean, as `--help` lists them.
pub const ENVIRONMENT: [(&str, &str); SETTINGS.len()] = {
    let mut list = [("", ""); SETTINGS.len()];
    let mut at = 0;
    while at < list.len() {
        list[at] = (SETTINGS[at].variable, SETTINGS[at].meaning);
        at += 1;
    }
    list
};
