//! The REST API: what each path under `/api/v1/` answers, as JSON with units in the names
//! and cursors where lists are long. Unaware of HTTP; `openapi.json` describes it.

use std::collections::HashMap;
use std::sync::Arc;

use hg_proto::json;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::bounds::{API_LIST_DEFAULT, API_LIST_MAX, QUEUE_TASKS_MAX};
use crate::dispatch::hub::{Hub, toolchain_name};
use crate::monitor::aggregator::Aggregator;
use crate::monitor::tasks::{OpenTask, Stage};

/// The description of all this.
const OPENAPI: &str = include_str!("openapi.json");

/// What follows the `?` of a request.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Items after this number.
    after: u64,
    /// So many items at most.
    limit: usize,
    /// Of tasks: those that have ended.
    has_ended: bool,
}

impl Query {
    /// Reads `text`; what is not known is passed over.
    ///
    /// # Errors
    /// In words: what is known has a value that there can't be.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut query = Query {
            limit: API_LIST_DEFAULT,
            ..Query::default()
        };
        for (name, value) in text.split('&').filter_map(|pair| pair.split_once('=')) {
            let number = || {
                let number = value.parse::<u64>();
                number.map_err(|_| format!("{name} takes a number"))
            };
            match (name, value) {
                ("after", _) => query.after = number()?,
                ("limit", _) => {
                    let limit = usize::try_from(number()?).unwrap_or(usize::MAX);
                    query.limit = limit.clamp(1, API_LIST_MAX);
                }
                ("state", "open") => query.has_ended = false,
                ("state", "ended") => query.has_ended = true,
                ("state", _) => return Err("state takes open or ended".into()),
                _ => {}
            }
        }
        Ok(query)
    }
}

/// What `path`, without `/api/v1/`, answers. `None`: there is nothing.
pub fn answer(hub: &Hub, path: &str, query: &Query) -> Option<Vec<u8>> {
    let value = match path {
        "openapi.json" => return Some(OPENAPI.as_bytes().to_vec()),
        "status" => status(hub),
        "workers" => workers(hub),
        "tasks" if query.has_ended => ended_tasks(&hub.seen(), query),
        "tasks" => open_tasks(&hub.seen(), query),
        "builds" => builds(&hub.seen()),
        "queue" => queue(&hub.seen(), query),
        "cache" => cache(hub),
        "tokens" => json!({ "holders": hub.seen().holders().list() }),
        "events" => events(&hub.seen(), query),
        "reasons" => reasons(&hub.seen()),
        "series" => series(&hub.seen()),
        _ => return None,
    };
    let mut text = value.to_string().into_bytes();
    text.push(b'\n');
    Some(text)
}

/// The grid in numbers.
pub fn status(hub: &Hub) -> Value {
    json::status(&hub.status())
}

fn workers(hub: &Hub) -> Value {
    Value::Array(hub.workers().iter().map(json::worker).collect())
}

/// A page of a list: its items, and where the next one begins.
fn list<T: Serialize>(name: &str, items: Vec<T>, next_after: Option<u64>, missed: u64) -> Value {
    json!({ name: items, "next_after": next_after, "missed": missed })
}

/// Leaves of all `tasks`, in the order of their numbers, what is asked for. Gives where the
/// next page begins; `None`: there is none.
fn cut(tasks: &mut Vec<OpenTask>, query: &Query) -> Option<u64> {
    tasks.retain(|task| task.task_id > query.after);
    let is_more = tasks.len() > query.limit;
    tasks.truncate(query.limit);
    let last = tasks.last().map(|task| task.task_id);
    last.filter(|_| is_more)
}

fn open_tasks(seen: &Aggregator, query: &Query) -> Value {
    let mut tasks = seen.open_tasks();
    let next = cut(&mut tasks, query);
    list("tasks", tasks, next, 0)
}

fn ended_tasks(seen: &Aggregator, query: &Query) -> Value {
    let tasks: Vec<_> = seen.ended().after(query.after).take(query.limit).collect();
    // There are always more to come.
    let next = tasks.last().map_or(query.after, |task| task.sequence);
    list("tasks", tasks, Some(next), seen.ended().missed(query.after))
}

fn events(seen: &Aggregator, query: &Query) -> Value {
    let events: Vec<_> = seen.events().after(query.after).take(query.limit).collect();
    let next = events.last().map_or(query.after, |event| event.sequence);
    let missed = seen.events().missed(query.after);
    list("events", events, Some(next), missed)
}

fn builds(seen: &Aggregator) -> Value {
    json!({ "builds": seen.builds().list().collect::<Vec<_>>() })
}

fn reasons(seen: &Aggregator) -> Value {
    let reasons = seen.fallbacks().list();
    let best = reasons.iter().find(|reason| {
        let advice = reason.advice;
        !advice.is_empty() && !advice.starts_with("nothing")
    });
    json!({ "best": best, "reasons": reasons })
}

fn queue(seen: &Aggregator, query: &Query) -> Value {
    let mut tasks = seen.open_tasks();
    let mut by_toolchain: HashMap<Arc<str>, u64> = HashMap::new();
    tasks.retain(|task| task.stage == Stage::Queued);
    for task in &tasks {
        *by_toolchain.entry(task.toolchain.clone()).or_default() += 1;
    }
    let queued = tasks.len();
    let oldest_unix_ms = tasks.iter().map(|task| task.submitted_unix_ms).min();
    let toolchains = seen.wanted().iter().map(|(toolchain, wanted)| {
        json!({
            "toolchain": toolchain,
            "queued": by_toolchain.get(toolchain).copied().unwrap_or_default(),
            "wanted_slots": wanted,
        })
    });
    let toolchains: Vec<Value> = toolchains.collect();
    let next_after = cut(&mut tasks, query);
    json!({
        "queued": queued,
        "queued_max": QUEUE_TASKS_MAX,
        "oldest_submitted_unix_ms": oldest_unix_ms,
        "toolchains": toolchains,
        "tasks": tasks,
        "next_after": next_after,
    })
}

fn series(seen: &Aggregator) -> Value {
    json!({
        "points": seen.series().points().collect::<Vec<_>>(),
        "worker_load_percent": seen.loads(),
    })
}

fn cache(hub: &Hub) -> Value {
    let status = hub.status();
    let (hits, misses) = (status.cache_hits_reported, status.cache_misses_reported);
    let share_milli = (hits * 1_000).checked_div(hits + misses);
    let saved_bytes = status.input_bytes.saturating_sub(status.input_bytes_sent);
    json!({
        "requests": hits + misses,
        "hits": hits,
        "misses": misses,
        "hit_share_milli": share_milli,
        "saved_ms": status.cache_saved_ms,
        "saved_today_ms": status.saved_today_ms,
        "input_bytes": status.input_bytes,
        "input_bytes_sent": status.input_bytes_sent,
        "input_bytes_saved": saved_bytes,
    })
}

/// All that the live page shows beside tasks that ended, events and the last hour.
pub fn live_state(hub: &Hub) -> Value {
    let listed = hub.workers_in_brief();
    let status = hub.status();
    let seen = hub.seen();
    let mut running: HashMap<&str, Map<String, Value>> = HashMap::with_capacity(listed.len());
    for task in seen.running_tasks() {
        let since_unix_ms = task.compiling_unix_ms.max(task.started_unix_ms);
        let row = json!([&*task.source, task.stage, since_unix_ms, &*task.client]);
        let tasks = running.entry(&task.worker).or_default();
        tasks.insert(task.task_id.to_string(), row);
    }
    let mut workers = Map::with_capacity(listed.len());
    for (spec, worker) in &listed {
        let mut shown = json::worker(worker);
        if let Value::Object(fields) = &mut shown {
            // It changes each time, and `joined_unix_ms` says the same.
            fields.remove("connected_ms");
            let mut names: Vec<String> = spec.toolchains.iter().map(toolchain_name).collect();
            names.sort();
            names.dedup();
            fields.insert("toolchains".into(), json!(names));
            let tasks = running.remove(worker.id.as_str()).unwrap_or_default();
            fields.insert("tasks".into(), Value::Object(tasks));
        }
        workers.insert(worker.id.clone(), shown);
    }
    let builds = seen.builds().list();
    let builds = builds.map(|build| (build.build_id.to_string(), json!(build)));
    json!({
        "status": json::status(&status),
        "workers": workers,
        "builds": builds.collect::<Map<String, Value>>(),
        "holders": seen.holders().list(),
        "reasons": reasons(&seen),
    })
}

/// The changes that make `new` of `old`, as a JSON Merge Patch (RFC 7396); `None`: there
/// are none. A member that is null is as good as none.
pub fn merge_patch(old: &Value, new: &Value) -> Option<Value> {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            let mut patch = Map::new();
            for (name, value) in new {
                let change = match old.get(name) {
                    None => Some(value.clone()),
                    Some(before) => merge_patch(before, value),
                };
                if let Some(change) = change {
                    patch.insert(name.clone(), change);
                }
            }
            for name in old.keys().filter(|name| !new.contains_key(*name)) {
                patch.insert(name.clone(), Value::Null);
            }
            (!patch.is_empty()).then_some(Value::Object(patch))
        }
        (old, new) if old == new => None,
        (_, new) => Some(new.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_read_or_refused() {
        let query = Query::parse("after=7&limit=3&state=ended&x=y").unwrap();
        assert_eq!((query.after, query.limit, query.has_ended), (7, 3, true));
        assert_eq!(Query::parse("").unwrap().limit, API_LIST_DEFAULT);
        assert_eq!(Query::parse("limit=0").unwrap().limit, 1);
        assert_eq!(Query::parse("limit=99999999").unwrap().limit, API_LIST_MAX);
        for wrong in ["after=-1", "after=x", "limit=", "state=both"] {
            assert!(Query::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_patch_has_what_changed_and_nothing_else() {
        let old = json!({"a": 1, "b": {"c": [1, 2], "d": "x"}, "gone": {}});
        let new = json!({"a": 1, "b": {"c": [1, 3], "d": "x"}, "new": {"e": 1}});
        let patch = json!({"b": {"c": [1, 3]}, "gone": null, "new": {"e": 1}});
        assert_eq!(merge_patch(&old, &new), Some(patch));
        assert_eq!(merge_patch(&old, &old), None);
        assert_eq!(merge_patch(&json!({}), &json!({})), None);
    }

    #[test]
    fn the_description_is_json_and_names_each_path() {
        let described: Value = serde_json::from_str(OPENAPI).unwrap();
        let paths = described["paths"].as_object().unwrap();
        for path in [
            "status", "workers", "tasks", "builds", "queue", "cache", "tokens", "events",
            "reasons", "series", "live",
        ] {
            assert!(paths.contains_key(&format!("/api/v1/{path}")), "{path}");
        }
    }
}
