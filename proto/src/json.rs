//! Messages as JSON, each field under its name in `build.proto`: what the coordinator's
//! pages and `hgbuild workers --json` have in common.

use serde_json::{Value, json};

use crate::secure::tls::hex;
use crate::v1;

/// The grid in numbers.
pub fn status(status: &v1::GetStatusResponse) -> Value {
    json!({
        "version": status.version,
        "workers": status.workers,
        "slots": status.slots,
        "slots_now": status.slots_now.unwrap_or(status.slots),
        "slots_busy": status.slots_busy,
        "queued": status.queued,
        "tasks_finished": status.tasks_finished,
        "tasks_failed": status.tasks_failed,
        "tasks_cancelled": status.tasks_cancelled,
        "cache_hits_reported": status.cache_hits_reported,
        "cache_misses_reported": status.cache_misses_reported,
        "cache_saved_ms": status.cache_saved_ms,
        "compiles_per_second_milli": status.compiles_per_second_milli,
        "saved_today_ms": status.saved_today_ms,
        "compiled_today_ms": status.compiled_today_ms,
        "hedges": status.hedges,
        "hedges_won": status.hedges_won,
        "input_bytes": status.input_bytes,
        "input_bytes_sent": status.input_bytes_sent,
        "uptime_ms": status.uptime_ms,
        "now_unix_ms": status.now_unix_ms,
        "insecure": status.insecure,
    })
}

/// A worker, its toolchains in it.
pub fn worker(worker: &v1::Worker) -> Value {
    let toolchains: Vec<Value> = worker.toolchains.iter().map(toolchain).collect();
    json!({
        "id": worker.id,
        "name": worker.name,
        "address": worker.address,
        "version": worker.version,
        "architecture": worker.architecture,
        "os": worker.os,
        "cores": worker.cores,
        "memory_bytes": worker.memory_bytes,
        "memory_available_bytes": worker.memory_available_bytes,
        "slots": worker.slots,
        "running": worker.running,
        "load_milli": worker.load_milli,
        "temperature_milli_c": worker.temperature_milli_c,
        "round_trip_us": worker.round_trip_us,
        "draining": worker.draining,
        "tasks_finished": worker.tasks_finished,
        "tasks_failed": worker.tasks_failed,
        "toolchains": toolchains,
        "connected_ms": worker.connected_ms,
        "circuit": worker.circuit,
        "shut_for_holders": worker.shut_for_holders,
        "speed_milli": worker.speed_milli,
        "slots_now": worker.slots_now,
        "slots_why": worker.slots_why,
        "sandbox": worker.sandbox,
        "machine": machine(worker.machine.as_ref()),
        "out": worker.out,
        "paused": worker.paused,
        "last_error": worker.last_error,
        "joined_unix_ms": worker.joined_unix_ms,
        "audits_same": worker.audits_same,
        "audits_different": worker.audits_different,
    })
}

/// A task that a worker has.
pub fn running_task(task: &v1::RunningTask) -> Value {
    json!({
        "task_id": task.task_id,
        "source": task.source,
        "worker": task.worker,
        "client": task.client,
        "compiling": task.compiling,
        "since_ms": task.since_ms,
    })
}

/// A build.
pub fn build(build: &v1::Build) -> Value {
    let end = build.end.map(|end| {
        json!({
            "wall_ms": end.wall_ms,
            "exit_code": end.exit_code,
            "remote": end.remote,
            "local": end.local,
            "cached": end.cached,
        })
    });
    json!({
        "build_id": build.build_id,
        "client": build.client,
        "holder": build.holder,
        "open": build.open,
        "finished": build.finished,
        "failed": build.failed,
        "began_ms": build.began_ms,
        "quiet_ms": build.quiet_ms,
        "end": end,
    })
}

/// What is beneath a worker's programs; an older one does not say, and has nothing odd.
fn machine(machine: Option<&v1::Machine>) -> Value {
    let said = machine.cloned().unwrap_or_default();
    let kind =
        |kind: &v1::CoreKind| json!({"cores": kind.cores, "capacity_milli": kind.capacity_milli});
    json!({
        "kernel_architecture": said.kernel_architecture,
        "emulator": said.emulator,
        "core_kinds": said.core_kinds.iter().map(kind).collect::<Vec<_>>(),
    })
}

fn toolchain(toolchain: &v1::Toolchain) -> Value {
    let family = match toolchain.family() {
        v1::Family::Gcc => "gcc",
        v1::Family::Clang => "clang",
        v1::Family::Unspecified => "",
    };
    let language = match toolchain.language() {
        v1::Language::C => "c",
        v1::Language::Cxx => "cxx",
        v1::Language::Unspecified => "",
    };
    json!({
        "family": family,
        "version": toolchain.version,
        "target": toolchain.target,
        "language": language,
        "digest": hex(&toolchain.digest),
        "tree": toolchain.tree,
        "shipped": !toolchain.shipment.is_empty(),
        "image": toolchain.image,
    })
}
