//! `hgbuild config`: each setting as it is in force, where that comes from, and what is
//! wrong with settings. Tokens are never shown.

use std::env;
use std::fs;
use std::path::Path;

use hg_proto::command_line::likely;
use hg_proto::table::table;
use serde_json::{Value, json};
use toml::de::DeTable;

use crate::cli::Flags;
use crate::compile::events::printable;
use crate::config::{self, Config};
use crate::say;
use crate::settings::{BETWEEN_OURSELVES, SETTINGS, Setting};
use hg_proto::size;

/// Bytes of a key or a value that are quoted.
const QUOTED_BYTES_MAX: usize = 60;

/// A setting as it is.
struct Known {
    setting: Setting,
    value: String,
    from: String,
}

/// `config.toml`, key by key.
#[derive(Default)]
struct File {
    /// Where it is; empty: nowhere.
    path: String,
    /// Its keys and their lines.
    keys: Vec<(String, usize)>,
    /// What is wrong with it: it is not obeyed then.
    troubles: Vec<String>,
}

/// Prints all settings. Gives an exit code: 1 where something is wrong.
pub fn config(config: &Config, flags: &Flags, as_json: bool) -> i32 {
    let file = config.home.as_deref().map(read_file).unwrap_or_default();
    let mut troubles = file.troubles.clone();
    // What is wrong with the file was said of each key.
    let of_file = |why: &&String| !troubles.is_empty() && why.starts_with(&file.path);
    let others: Vec<String> = config
        .troubles
        .iter()
        .filter(|why| !of_file(why))
        .cloned()
        .collect();
    troubles.extend(others);
    let notes = unknown_variables();
    let known = SETTINGS.map(|setting| Known {
        value: value(setting.variable, config),
        from: origin(&setting, config, flags, &file, &troubles),
        setting,
    });
    let written = match as_json {
        true => say::answer(format_args!(
            "{}\n",
            object(&known, &file, &troubles, &notes)
        )),
        false => say::answer(text(&known, &file, &troubles, &notes)),
    };
    written.max(i32::from(!troubles.is_empty()))
}

fn object(known: &[Known], file: &File, troubles: &[String], notes: &[String]) -> Value {
    let settings: Vec<Value> = known
        .iter()
        .map(|one| {
            json!({
                "variable": one.setting.variable,
                "key": key_of(&one.setting),
                "value": one.value,
                "from": one.from,
            })
        })
        .collect();
    json!({
        "settings": settings,
        "file": file.path,
        "troubles": troubles,
        "notes": notes,
    })
}

fn text(known: &[Known], file: &File, troubles: &[String], notes: &[String]) -> String {
    let mut cells = vec![["SETTING", "VALUE", "FROM"].map(str::to_owned)];
    for one in known {
        let value = printable(&one.value);
        cells.push([one.setting.variable.to_owned(), value, printable(&one.from)]);
    }
    let mut text = table(&cells);
    if !file.path.is_empty() && !Path::new(&file.path).exists() {
        text.push_str(&format!(
            "\n{} is not there: no setting comes from it\n",
            file.path
        ));
    }
    for trouble in troubles {
        text.push_str(&format!("\n!! {}", printable(trouble)));
    }
    if !troubles.is_empty() {
        text.push_str("\n   Until that is right, compiles run without the grid.");
    }
    for note in notes {
        text.push_str(&format!("\nnote: {}", printable(note)));
    }
    if text.ends_with('\n') {
        text
    } else {
        text + "\n"
    }
}

/// Its key in `config.toml`; empty: it has none.
fn key_of(setting: &Setting) -> &'static str {
    setting.line.split(" = ").next().unwrap_or_default()
}

/// What is in force.
fn value(variable: &str, config: &Config) -> String {
    let path = |path: &Option<std::path::PathBuf>| match path {
        Some(path) => path.display().to_string(),
        None => "none".to_owned(),
    };
    let name = |name: &Option<std::ffi::OsString>| match name {
        Some(name) => name.to_string_lossy().into_owned(),
        None => "what PATH has".to_owned(),
    };
    let switch = |is_on: bool| if is_on { "on" } else { "off" }.to_owned();
    let cache = config.cache.as_ref();
    match variable {
        "HG_COORDINATOR" => match (&config.coordinator, config.sought) {
            (Some(address), _) => address.clone(),
            (None, Some(_)) => "looked for by mDNS".to_owned(),
            (None, None) if config.trouble.is_some() => "none, while settings are wrong".to_owned(),
            (None, None) => "none".to_owned(),
        },
        "HG_MDNS" => switch(config.mdns),
        "HG_TOKEN" => match is_set(variable) || has_token(config) {
            true => "there, and not shown".to_owned(),
            false => "none".to_owned(),
        },
        "HG_TLS_CA" => path(&config.pki.ca),
        "HG_TLS_CERT" => path(&config.pki.certificate),
        "HG_TLS_KEY" => path(&config.pki.key),
        "HG_INSECURE" => switch(config.insecure),
        "HG_LOCAL_SLOTS" => match config.local_slots {
            Some(slots) => slots.to_string(),
            None => "by cores and load".to_owned(),
        },
        "HG_FALLBACK" => switch(config.fallback),
        "HG_QUEUE_MS_MAX" => config.queue_ms_max.to_string(),
        "HG_SHIP" => switch(config.ship),
        "HG_STATUS_LINE" => switch(config.status_line),
        "HG_EVENT_LOG" => path(&config.event_log),
        "HG_LOG" => format!("{:?}", config.level).to_lowercase(),
        "HG_CC" => name(&config.cc),
        "HG_CXX" => name(&config.cxx),
        "HG_CACHE_DIR" => match cache {
            Some(cache) => cache.folder.display().to_string(),
            None => "no cache".to_owned(),
        },
        "HG_CACHE_MAX_SIZE" => size::show(cache.map_or(0, |cache| cache.size_bytes_max)),
        "HG_BASE_DIR" => path(&cache.and_then(|cache| cache.base.clone())),
        "HG_RECACHE" => switch(cache.is_some_and(|cache| cache.recache)),
        "HG_READONLY_CACHE" => switch(cache.is_some_and(|cache| cache.read_only)),
        "HG_DISABLE" => switch(config.disabled),
        // A test asks for each.
        _ => String::new(),
    }
}

fn has_token(config: &Config) -> bool {
    config.token_file().is_some_and(|file| file.exists())
}

/// Where what is in force comes from.
fn origin(
    setting: &Setting,
    config: &Config,
    flags: &Flags,
    file: &File,
    troubles: &[String],
) -> String {
    let variable = setting.variable;
    if let Some(flag) = flag_of(variable, flags) {
        return format!("flag {flag}");
    }
    let is_wrong = |why: &String| why.starts_with(&format!("{variable}="));
    if is_set(variable) && !troubles.iter().any(is_wrong) {
        return format!("environment {variable}");
    }
    let key = key_of(setting);
    let line = file.keys.iter().find(|(name, _)| name == key);
    if let (Some((_, line)), true) = (line, file.troubles.is_empty()) {
        return format!("{} line {line}", file.path);
    }
    let joined = match variable {
        "HG_TOKEN" => has_token(config),
        "HG_COORDINATOR" => config.coordinator.is_some() || config.sought.is_some(),
        _ => false,
    };
    match config.token_file().filter(|_| joined) {
        Some(file) => format!("hgbuild join ({})", file.display()),
        None => "default".to_owned(),
    }
}

/// The flag that was typed and goes before `variable`.
fn flag_of(variable: &str, flags: &Flags) -> Option<&'static str> {
    let (flag, is_typed) = match variable {
        "HG_COORDINATOR" => ("--coordinator", flags.coordinator.is_some()),
        "HG_TLS_CA" => ("--tls-ca", flags.tls_ca.is_some()),
        "HG_TLS_CERT" => ("--tls-cert", flags.tls_cert.is_some()),
        "HG_TLS_KEY" => ("--tls-key", flags.tls_key.is_some()),
        "HG_INSECURE" => ("--insecure", flags.insecure),
        "HG_FALLBACK" => ("--no-fallback", flags.no_fallback),
        "HG_LOG" => ("--verbose", flags.verbose),
        _ => return None,
    };
    is_typed.then_some(flag)
}

/// Whether a variable is heeded: of most, an empty one is none.
fn is_set(variable: &str) -> bool {
    let counts_empty = matches!(variable, "HG_LOG" | "HG_CC" | "HG_CXX");
    env::var_os(variable).is_some_and(|value| counts_empty || !value.is_empty())
}

/// Variables that look like settings and are none.
fn unknown_variables() -> Vec<String> {
    let names = env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let mut names: Vec<String> = names.filter(|name| name.starts_with("HG_")).collect();
    names.sort();
    let settings = || SETTINGS.iter().map(|setting| setting.variable);
    names.retain(|name| {
        !settings().any(|known| known == name) && !BETWEEN_OURSELVES.contains(&name.as_str())
    });
    let told = names.iter().map(|name| {
        let meant = likely(name, settings());
        format!(
            "{} is no setting of hgbuild{}",
            short(name),
            meant_words(meant)
        )
    });
    told.collect()
}

fn meant_words(meant: Option<&str>) -> String {
    meant.map_or_else(String::new, |meant| format!(": did you mean {meant}?"))
}

fn short(words: &str) -> String {
    let mut end = words.len().min(QUOTED_BYTES_MAX);
    while !words.is_char_boundary(end) {
        end -= 1;
    }
    words[..end].to_owned()
}

fn read_file(home: &Path) -> File {
    let path = home.join(config::FILE_NAME);
    let mut file = File {
        path: path.display().to_string(),
        ..File::default()
    };
    // Why it can't be read is among the troubles of the settings.
    let Ok(text) = fs::read_to_string(&path) else {
        return file;
    };
    let line_at = |at: usize| text[..at.min(text.len())].matches('\n').count() + 1;
    let table = match DeTable::parse(&text) {
        Ok(table) => table,
        Err(error) => {
            let line = error.span().map_or(1, |span| line_at(span.start));
            let why = format!("{} line {line}: {}", file.path, error.message());
            file.troubles.push(why);
            return file;
        }
    };
    let mut keys: Vec<_> = table.get_ref().iter().collect();
    keys.sort_by_key(|(key, _)| key.span().start);
    for (key, value) in keys {
        let name = key.get_ref().to_string();
        let line = line_at(key.span().start);
        if let Some(why) = trouble_of(&name, &text[key.span().start..value.span().end]) {
            file.troubles
                .push(format!("{} line {line}: {why}", file.path));
        }
        file.keys.push((name, line));
    }
    file
}

/// What is wrong with a key of the file, whose text with its value is `text`.
fn trouble_of(name: &str, text: &str) -> Option<String> {
    let keys = || SETTINGS.iter().map(key_of).filter(|key| !key.is_empty());
    if !keys().any(|key| key == name) {
        let meant = likely(name, keys());
        return Some(format!(
            "unknown setting {:?}{}",
            short(name),
            meant_words(meant)
        ));
    }
    let why = config::check_line(text).err()?;
    Some(format!("{name}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_setting_has_a_value() {
        let config = Config::load(&Flags::default());
        for setting in SETTINGS {
            let variable = setting.variable;
            assert!(
                !value(variable, &config).is_empty(),
                "{variable} has no value here"
            );
        }
    }

    #[test]
    fn what_is_wrong_with_the_file_is_said_of_each_key() {
        let home = env::temp_dir().join(format!("hg-config-{}", std::process::id()));
        let _ = fs::remove_dir_all(&home);
        fs::create_dir_all(&home).expect("a folder");
        let wrong =
            "# mine\ncoordinatr = \"x:1\"\nship = \"yes\"\n\nlocal_slots = 4\n[odd]\na = 1\n";
        fs::write(home.join(config::FILE_NAME), wrong).expect("a file");
        let file = read_file(&home);
        let path = home.join(config::FILE_NAME).display().to_string();
        let told: Vec<String> = file
            .troubles
            .iter()
            .map(|why| why.replace(&path, "file"))
            .collect();
        assert_eq!(told.len(), 3, "{told:?}");
        let has = |words: &str| told.iter().any(|why| why.contains(words));
        assert!(has(
            "file line 2: unknown setting \"coordinatr\": did you mean coordinator?"
        ));
        assert!(has("file line 3: ship: ") && has("boolean"), "{told:?}");
        assert!(has("file line 6: unknown setting \"odd\""), "{told:?}");
        assert!(file.keys.contains(&("local_slots".to_owned(), 5)));
        fs::write(home.join(config::FILE_NAME), "ship = true\nx = = 1\n").expect("a file");
        assert!(read_file(&home).troubles[0].starts_with(&format!("{path} line 2: ")));
        let _ = fs::remove_dir_all(&home);
    }
}
