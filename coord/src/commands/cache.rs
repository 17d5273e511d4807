//! `hg-coord cache ...`: what is in the store of results, and less of it.

use std::path::{Path, PathBuf};

use hg_proto::size;
use serde_json::json;

use crate::config::{self, CacheArgs, CacheCommand, CommandError};
use crate::results::kept::Kept;
use crate::results::store::Store;
use crate::results::upkeep;

/// Does what is asked.
///
/// # Errors
/// What did not work, for the operator.
pub fn run(args: &CacheArgs, home: Option<PathBuf>) -> Result<(), CommandError> {
    let open = |state: &Option<PathBuf>| {
        let state = config::commands_state(state.as_deref(), home);
        open(&state.map_err(CommandError::Usage)?)
    };
    match &args.command {
        CacheCommand::Stats(asked) => stats(&open(&asked.state)?, asked.json),
        CacheCommand::Clear(asked) => clear(&open(&asked.state)?, asked.worker.as_deref()),
        CacheCommand::Verify(asked) => verify(&open(&asked.state)?),
    }
}

fn open(state: &Path) -> Result<Store, CommandError> {
    // To look makes no folder.
    match Store::is_in(state) {
        false => Err(CommandError::Usage(format!(
            "{}: no coordinator has kept results there; --state names another folder",
            state.display()
        ))),
        true => Ok(Store::open(state, u64::MAX)?),
    }
}

fn stats(store: &Store, json: bool) -> Result<(), CommandError> {
    let folder = store.entries().folder();
    let size = store.size();
    let (results, bytes) = size.ok_or_else(|| format!("{}: can't be read", folder.display()))?;
    if json {
        let folder = folder.to_string_lossy();
        println!(
            "{}",
            json!({"folder": folder, "results": results, "size_bytes": bytes})
        );
    } else {
        println!("folder   {}", folder.display());
        println!("results  {results}");
        println!("size     {}", size::show(bytes));
    }
    Ok(())
}

fn clear(store: &Store, worker: Option<&str>) -> Result<(), CommandError> {
    let removed = match worker {
        None => upkeep::clear(store)?,
        Some(worker) => {
            let name = |kept: &Kept| kept.maker.clone().unwrap_or_default().name;
            let is_its = |kept: &Kept| name(kept) == worker;
            let swept = upkeep::sweep(store, |kept| is_its(kept).then_some("of that worker"))?;
            swept.wrong.len() as u64
        }
    };
    println!("{removed} results removed");
    Ok(())
}

fn verify(store: &Store) -> Result<(), CommandError> {
    let swept = upkeep::sweep(store, |kept| match (store.is_void(kept), kept.holds()) {
        (true, _) => Some("of a worker whose results are void"),
        (_, false) => Some("not what its worker said"),
        (false, true) => None,
    })?;
    for (worker, share) in &swept.good {
        let bytes = size::show(share.bytes);
        println!("worker {worker}: {} results, {bytes}", share.results);
    }
    for line in &swept.wrong {
        println!("{line}");
    }
    let good: u64 = swept.good.values().map(|share| share.results).sum();
    let wrong = swept.wrong.len();
    println!("{good} results good, {wrong} wrong");
    match wrong {
        0 => Ok(()),
        _ => Err(format!("{wrong} results were wrong, and are no more").into()),
    }
}
