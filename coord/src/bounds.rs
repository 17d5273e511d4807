//! The coordinator's own bounds, each with its unit. Those of the wire are in
//! `hg_proto::wire::limits`.

use hg_proto::wire::limits;

/// Tasks that wait for a slot, all clients together.
pub const QUEUE_TASKS_MAX: usize = 16_384;
/// Tasks of one client that wait for a slot.
pub const QUEUE_CLIENT_TASKS_MAX: usize = 4_096;
/// Tasks of all clients of one holder of tokens that wait for a slot.
pub const QUEUE_HOLDER_TASKS_MAX: usize = QUEUE_TASKS_MAX / 2;
/// Tasks that may wait for the result of another one that is the same; more wait in the queue.
pub const DUPLICATES_WAITING_MAX: usize = 4096;
/// Bytes of all tasks that wait for a slot, as they lie in memory (arguments and names;
/// never sources).
pub const QUEUE_BYTES_MAX: usize = 256 << 20;
/// Virtual times that are remembered of holders that have no task now, and as many of
/// clients of one holder.
pub const QUEUE_IDLE_FLOWS_MAX: usize = 4_096;
/// Tasks of one client that are looked at for one free slot.
pub const QUEUE_CLIENT_LOOKS_MAX: usize = 16;
/// Tasks of all clients of one holder that are looked at for one free slot, or some more.
pub const QUEUE_HOLDER_LOOKS_MAX: usize = 64;
/// Holders whose tasks are looked at so for one free slot.
pub const QUEUE_HOLDERS_LOOKED_MAX: usize = 32;
/// Holders of which at least the task that needs least memory is looked at for one free
/// slot.
pub const QUEUE_HOLDERS_SMALLEST_MAX: usize = 1_024;
/// Milliseconds that a task waits for a slot when it says nothing.
pub const QUEUE_MS_DEFAULT: u64 = 30_000;
/// Milliseconds that a task may wait for a slot at most.
pub const QUEUE_MS_MAX: u64 = 600_000;

/// Milliseconds from a task's submission to its end, all attempts together.
pub const TASK_MS_DEFAULT: u64 = 2 * limits::COMPILE_MS_MAX as u64;

/// Attempts on other workers after the first one failed.
pub const RETRIES_MAX: u32 = 3;
/// Retries per task that is begun, all tasks together: extra load.
pub const RETRY_SHARE: f64 = 0.1;
/// Retries that may be made at once, however few tasks were begun.
pub const RETRIES_SAVED_MAX: f64 = 64.0;
/// Work of second attempts beside running first ones, per work that was done.
pub const HEDGE_SHARE: f64 = 0.05;
/// Milliseconds of work of second attempts that may be saved up.
pub const HEDGE_SAVED_MS_MAX: f64 = 60_000.0;
/// An attempt is a straggler that has run this many times as long as predicted, and
/// [`HEDGE_MS_MIN`] more.
pub const HEDGE_FACTOR: f64 = 2.0;
/// See [`HEDGE_FACTOR`]; in milliseconds, since predictions of short compiles are mostly
/// noise.
pub const HEDGE_MS_MIN: u64 = 300;
/// Milliseconds between two looks at a straggler.
pub const HEDGE_LOOK_MS: u64 = 250;
/// Compiles at once on a worker that has brought none to an end yet, whatever it says
/// that it can; one more for each that it has.
pub const SLOTS_UNPROVEN_MAX: u32 = 8;
/// How many times as fast as the reference a worker may say that it is: about twice
/// what the fastest machines are.
pub const SPEED_CLAIM_MAX: f64 = 4.0;
/// Milliseconds for which a breaker first opens; doubled with each trip.
pub const BREAKER_OPEN_MS_MIN: u64 = 1_000;
/// Milliseconds for which a breaker opens at most.
pub const BREAKER_OPEN_MS_MAX: u64 = 15_000;
/// Breakers of workers that are gone, kept until they come back.
pub const BREAKERS_KEPT_MAX: usize = 4_096;
/// Breakers that shut a worker for one holder of tokens, all together.
pub const HOLDER_BREAKERS_MAX: usize = 4_096;
/// Milliseconds for which what a worker failed of one holder's bears witness for
/// another's.
pub const WITNESS_MS_MAX: u64 = 60_000;
/// Milliseconds after which a worker that was slow, and has had no task since, gets one
/// to be tried out with while tasks wait; doubled while it stays slow, up to
/// [`TRIAL_MS_MAX`].
pub const TRIAL_MS_MIN: u64 = 2_000;
/// See [`TRIAL_MS_MIN`].
pub const TRIAL_MS_MAX: u64 = 8_000;
/// Milliseconds that such a compile may take there if the worker is as slow as before;
/// a longer one must be worth a second attempt elsewhere.
pub const TRIAL_WALL_MS_MAX: f64 = 2_000.0;
/// Bytes of a task's outputs, as they travel, beyond which they are not kept.
pub const RESULT_BYTES_MAX: usize = 64 << 20;
/// Bytes of outputs on their way into the store of results, all tasks together; beyond, they
/// are not kept.
pub const RESULTS_BYTES_HELD_MAX: usize = 256 << 20;
/// Bytes that the store of results has on disk at most where the operator says nothing.
pub const RESULTS_BYTES_DEFAULT: u64 = 10 << 30;
/// It takes one in so many free bytes of that disk at most where the operator says nothing.
pub const RESULTS_DISK_SHARE: u64 = 4;
/// Milliseconds between two warnings that results can't be kept.
pub const RESULTS_WARN_MS: u64 = 60_000;
/// Milliseconds that a look into the cache backend may take where the operator says nothing.
pub const BACKEND_READ_MS_DEFAULT: u64 = 100;
/// Looks into the cache backend at once; others wait, no longer than one may take.
pub const BACKEND_READS_AT_ONCE_MAX: usize = 16;
/// Bytes of a result in the cache backend; what is larger stays on this machine.
pub const BACKEND_ENTRY_BYTES_MAX: usize = 16 << 20;
/// Results that wait to be put into the cache backend; beyond, they stay on this machine.
pub const BACKEND_QUEUE_MAX: usize = 1_024;
/// Bytes of results that wait to be put into the cache backend, or are on their way.
pub const BACKEND_QUEUE_BYTES_MAX: usize = 64 << 20;
/// Results that are put into the cache backend at once.
pub const BACKEND_WRITES_AT_ONCE_MAX: usize = 4;
/// Milliseconds that putting a result into the cache backend may take.
pub const BACKEND_WRITE_MS_MAX: u64 = 10_000;
/// Milliseconds that a backend which has failed may take to answer a try.
pub const BACKEND_TRY_MS_MAX: u64 = 5_000;
/// Milliseconds for which a failing cache backend is left alone at first; doubled with each
/// try that fails.
pub const BACKEND_PAUSE_MS_MIN: u64 = 1_000;
/// See [`BACKEND_PAUSE_MS_MIN`].
pub const BACKEND_PAUSE_MS_MAX: u64 = 60_000;
/// Milliseconds between two warnings that the cache backend holds what is not authentic.
pub const BACKEND_WARN_MS: u64 = 60_000;
/// Milliseconds between two looks at whose results other coordinators hold for void.
pub const VOID_LOOK_MS: u64 = 10_000;
/// Workers in such a list.
pub const VOID_LIST_MAX: usize = 16_384;
/// Bytes of a file with the key of a cache backend.
pub const BACKEND_KEY_FILE_BYTES_MAX: u64 = 4_096;
/// Milliseconds between two writes of what was learned.
pub const LEARNED_SAVE_MS: u64 = 60_000;
/// Bytes of what was learned, on disk.
pub const LEARNED_BYTES_MAX: u64 = 64 << 20;
/// Source files whose cost is remembered.
pub const PREDICTED_FILES_MAX: usize = 65_536;
/// Workers whose speed is remembered.
pub const PREDICTED_WORKERS_MAX: usize = 16_384;
/// Times that workers may answer "no room" to one task.
pub const REFUSALS_MAX: u32 = 8;
/// Milliseconds for which a worker that answered "no room" gets nothing.
pub const REFUSAL_PAUSE_MS: u64 = 500;

/// Milliseconds from a dispatch to the worker's first answer to it.
pub const OFFER_MS_MAX: u64 = 10_000;
/// Milliseconds for which a compile may get no processor time, or nothing be heard of it,
/// before it is tried elsewhere: many reports of it, and as long as a worker's silence.
pub const PROGRESS_MS_MAX: u64 = 10_000;
/// Milliseconds without progress while a client sends its inputs.
pub const INPUT_STALL_MS_MAX: u64 = 10_000;
/// Milliseconds that all inputs of one attempt may take.
pub const INPUTS_MS_MAX: u64 = 600_000;
/// Milliseconds that a worker gets beyond the compile's own limit, to stop it
/// and to send what it made.
pub const RESULT_GRACE_MS: u64 = 60_000;
/// Milliseconds that a chunk may wait for a worker that does not read. Shorter
/// than [`INPUT_STALL_MS_MAX`], so that the right side is blamed.
pub const LINK_STALL_MS_MAX: u64 = 8_000;
/// Milliseconds that a client may leave an answer unread.
pub const CLIENT_STALL_MS_MAX: u64 = 30_000;

/// Milliseconds between two looks at the deadlines.
pub const TICK_MS: u64 = 100;
/// Milliseconds from a signal to the end of the process.
pub const SHUTDOWN_MS_MAX: u64 = 1_500;

/// Bytes of control frames that wait for one worker; beyond it does not read.
pub const LINK_CONTROL_BYTES_MAX: usize = 8 << 20;
/// Chunks that wait for one worker, all its tasks together.
pub const LINK_CHUNKS_MAX: usize = 8;
/// Cancelled dispatches of one link whose late answers are still understood.
pub const LINK_CANCELLED_MAX: usize = 4_096;
/// Bytes of a hello, and of whatever comes before one: anybody can make us hold
/// as much, thousands of times.
pub const HELLO_BYTES_MAX: usize = 32 << 10;
/// Messages a second of one link that are about no task (heartbeats), and how many at
/// once: many times what a worker says, also when the network had kept it back.
pub const LINK_IDLE_PER_S_MAX: f64 = 20.0;
/// See [`LINK_IDLE_PER_S_MAX`].
pub const LINK_IDLE_AT_ONCE_MAX: f64 = 200.0;
/// Bytes read from a link at once.
pub const LINK_READ_BYTES: usize = 16 << 10;
/// Bytes of output consumed before the worker is told.
pub const CREDIT_BYTES_MIN: u32 = limits::OUTPUT_WINDOW_BYTES / 4;

/// File descriptors kept for the process itself and for HTTP.
pub const FDS_RESERVED: u64 = 512;
/// File descriptors that are asked for; more would be of no use.
pub const FDS_MAX: u64 = 262_144;
/// Connections that the system holds until they are accepted. With few, a burst
/// makes everybody wait a second for the next try.
pub const BACKLOG_MAX: u32 = 4_096;
/// Connections that have not said what they are, at most, whatever the limit
/// on file descriptors.
pub const SILENT_MAX: usize = 4_096;
/// Hits in one report: more than fit into the MiB of its log that a client reads for one.
pub const REPORTED_HITS_MAX: u64 = 1 << 20;
/// Reasons in the report of one build.
pub const REPORTED_REASONS_MAX: usize = 64;
/// SubmitTask streams, all connections together.
pub const SUBMITS_MAX: usize = 32_768;
/// SubmitTask streams of one client.
pub const CLIENT_SUBMITS_MAX: usize = 8_192;
/// SubmitTask streams of all clients of one holder of tokens.
pub const HOLDER_SUBMITS_MAX: usize = SUBMITS_MAX / 2;
/// Tasks a second that one client may submit, and how many at once after a pause:
/// several times what the largest build does.
pub const SUBMITS_PER_S_MAX: f64 = 5_000.0;
/// See [`SUBMITS_PER_S_MAX`].
pub const SUBMIT_BURST_MAX: f64 = 32_768.0;
/// Clients whose rate is watched.
pub const RATE_CLIENTS_MAX: usize = 16_384;
/// Watchers of events.
pub const WATCHERS_MAX: usize = 256;
/// Watchers of events of one holder of tokens.
pub const HOLDER_WATCHERS_MAX: usize = WATCHERS_MAX / 4;
/// Events that a watcher may be behind.
pub const EVENTS_BEHIND_MAX: usize = 1_024;

/// Streams of one HTTP/2 connection.
pub const H2_STREAMS_MAX: u32 = 1_024;
/// Bytes of one gRPC message after a stream's first: a chunk of an input, and what is
/// around it.
pub const INPUT_MESSAGE_BYTES_MAX: usize = limits::CHUNK_BYTES_MAX + (1 << 10);
/// Bytes of a gRPC message that is no task and no input: a question and a name or two.
pub const QUESTION_BYTES_MAX: usize = 4 << 10;
/// Bytes of gRPC messages of one holder of tokens that have begun and are not whole: many
/// times what the clients of the largest team have on their way at one moment.
pub const HOLDER_PARTIAL_BYTES_MAX: usize = 64 << 20;
/// Milliseconds from the first byte of a gRPC message to its last.
pub const MESSAGE_MS_MAX: u64 = INPUT_STALL_MS_MAX;
/// Bytes in flight to us on one HTTP/2 stream, those included that came and are not read.
pub const H2_STREAM_WINDOW_BYTES: u32 = 256 << 10;
/// Bytes in flight to us on one HTTP/2 connection, those included that came and are not
/// read. What was read of a message that is not whole is in [`HOLDER_PARTIAL_BYTES_MAX`].
pub const H2_CONNECTION_WINDOW_BYTES: u32 = 1 << 20;
/// Tasks whose spans wait to be exported, and those of one batch.
pub const SPANS_WAITING_MAX: usize = 8_192;
/// See [`SPANS_WAITING_MAX`].
pub const SPANS_AT_ONCE_MAX: usize = 512;

/// Bytes of one HTTP/2 frame.
pub const H2_FRAME_BYTES_MAX: u32 = 64 << 10;
/// Bytes of the headers of one request.
pub const H2_HEADER_BYTES_MAX: u32 = 16 << 10;
/// Frames a second of an HTTP/2 connection that must be answered and carry nothing
/// (PING, SETTINGS), and how many at once: far more than any client has use for, its
/// measurements of the way to us included.
pub const H2_IDLE_FRAMES_PER_S_MAX: f64 = 1_000.0;
/// See [`H2_IDLE_FRAMES_PER_S_MAX`].
pub const H2_IDLE_FRAMES_AT_ONCE_MAX: f64 = 2_000.0;
/// Milliseconds between two pings of an HTTP/2 connection.
pub const H2_PING_MS: u64 = 10_000;
/// Milliseconds in which a ping must be answered.
pub const H2_PONG_MS_MAX: u64 = 10_000;

/// Handshakes a second with one address, and how many at once. Each is a compile, so
/// that it is more than one machine's build has use for; with a certificate of our own
/// it is about a sixth of a fast core.
pub const ARRIVALS_PER_S_MAX: f64 = 750.0;
/// See [`ARRIVALS_PER_S_MAX`].
pub const ARRIVALS_AT_ONCE_MAX: f64 = 2_000.0;
/// Milliseconds that a connection waits for its handshake at most: less than the
/// client's patience, and enough for as many as several of the largest builds have
/// open at once.
pub const ARRIVAL_WAIT_MS_MAX: u64 = 1_500;
/// Addresses whose handshakes are counted.
pub const ARRIVAL_ADDRESSES_MAX: usize = 4_096;

/// Connections a second of one address that may break a protocol or end before they
/// have said who they are, and how many at once: a build that is interrupted leaves
/// some.
pub const OFFENCES_PER_S_MAX: f64 = 4.0;
/// See [`OFFENCES_PER_S_MAX`].
pub const OFFENCES_AT_ONCE_MAX: f64 = 64.0;
/// Milliseconds for which an address is shut out at first; doubled each time.
pub const SHUT_OUT_MS_MIN: u64 = 1_000;
/// Milliseconds for which an address is shut out at most.
pub const SHUT_OUT_MS_MAX: u64 = 60_000;
/// Addresses of which offences are known.
pub const NUISANCES_MAX: usize = 4_096;

/// Milliseconds between two looks whether secrets or revocations have changed.
pub const TRUST_LOOK_MS: u64 = 1_000;
/// Seconds for which tokens for this user's own processes hold; they are renewed
/// every hour.
pub const LOCAL_TOKEN_S: u64 = 7 * 86_400;
/// Audit lines a second; beyond it they are counted.
pub const AUDIT_LINES_PER_S_MAX: u64 = 20;

/// HTTP connections at once.
pub const HTTP_CONNECTIONS_MAX: usize = 64;
/// Bytes of the head of an HTTP request.
pub const HTTP_HEAD_BYTES_MAX: usize = 16 << 10;
/// Milliseconds that one HTTP connection may last.
pub const HTTP_MS_MAX: u64 = 30_000;

/// Items of a list of the REST API when nothing is said.
pub const API_LIST_DEFAULT: usize = 100;
/// Items of a list of the REST API at most.
pub const API_LIST_MAX: usize = 1_000;
/// Bytes of a worker's own metrics.
pub const OWN_METRICS_BYTES_MAX: usize = 64 << 10;
/// Who may wait for one worker's own metrics at once.
pub const METRICS_ASKED_MAX: usize = 8;
/// Milliseconds that a worker's own metrics may take: some heartbeats.
pub const OWN_METRICS_MS_MAX: u64 = 4_000;
/// Tasks in one answer to who asks what runs now.
pub const ACTIVITY_TASKS_MAX: usize = 1_024;
/// Builds in it.
pub const ACTIVITY_BUILDS_MAX: usize = 64;
/// Bytes of each name in it.
pub const ACTIVITY_NAME_BYTES_MAX: usize = 256;
/// Live sockets of dashboards at once.
pub const LIVE_SOCKETS_MAX: usize = 128;
/// Milliseconds between two live messages.
pub const LIVE_TICK_MS: u64 = 500;
/// Live messages that a socket may be behind.
pub const LIVE_BEHIND_MAX: usize = 16;
/// Tasks that have ended in one live message.
pub const LIVE_ENDED_MAX: usize = 1_024;
/// Events in the first live message.
pub const LIVE_EVENTS_MAX: u64 = 100;
/// Bytes of what a dashboard may say over its live socket.
pub const LIVE_MESSAGE_BYTES_MAX: usize = 1 << 10;
/// Milliseconds that a live message may take to be read.
pub const LIVE_SEND_MS_MAX: u64 = 5_000;
/// Milliseconds in which a live socket must have answered a ping.
pub const LIVE_SILENCE_MS_MAX: u64 = 45_000;

/// Sets of toolchains of which any will do for some tasks, whose workers are one pool: a
/// worker is in each that has one of its own, and moves in all with each task.
pub const UNIONS_MAX: usize = 256;
/// Those of one holder of a token.
pub const UNIONS_OF_HOLDER_MAX: usize = 16;
/// Milliseconds after which no task that asked for such a set can still be there: another
/// one may have its room. Longer than a task's whole time.
pub const UNION_UNUSED_MS: u64 = 2 * 3_600_000;
/// Other toolchains that a task may name as good enough.
pub const EQUALS_MAX: usize = 8;

/// Pairs of worker and toolchain whose results are counted for audits.
pub const AUDITED_PAIRS_MAX: usize = 16_384;
/// Results that clients were asked to check and have not answered for.
pub const AUDITS_OPEN_MAX: usize = 4_096;
/// Workers that are remembered for having returned another object.
pub const OUT_MAX: usize = 1_024;
/// Holders' sources of which it is remembered that no check came to a result.
pub const DISPUTED_SOURCES_MAX: usize = 4_096;
