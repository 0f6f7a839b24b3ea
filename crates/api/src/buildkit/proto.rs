//! The messages of BuildKit's public API that are spoken here, by their field numbers: `moby.buildkit.v1` (control),
//! `moby.buildkit.v1.frontend` (gateway), `moby.filesync.v1`, `moby.buildkit.secrets.v1`, `moby.sshforward.v1`,
//! `fsutil.types` and `google.rpc.Status`. Fields that nobody reads or writes are left out.

#![allow(missing_docs)]

use std::collections::HashMap;

/// Declares messages: `Name { tag kind field, … }`.
macro_rules! messages {
    ($($(#[$note:meta])* $name:ident { $($(#[$kind:meta])* $field:ident: $type:ty,)* })*) => {
        $(
            $(#[$note])*
            #[derive(Clone, PartialEq, prost::Message)]
            pub(crate) struct $name { $($(#[$kind])* pub(crate) $field: $type,)* }
        )*
    };
}

/// Seconds and nanoseconds since 1970.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(crate) struct Timestamp {
    #[prost(int64, tag = "1")]
    pub(crate) seconds: i64,
    #[prost(int32, tag = "2")]
    pub(crate) nanos: i32,
}

messages! {
    /// Nothing.
    Empty {}

    // google.rpc
    RpcStatus {
        #[prost(int32, tag = "1")]
        code: i32,
        #[prost(string, tag = "2")]
        message: String,
        #[prost(message, repeated, tag = "3")]
        details: Vec<Any>,
    }
    Any {
        #[prost(string, tag = "1")]
        type_url: String,
        #[prost(bytes = "vec", tag = "2")]
        value: Vec<u8>,
    }

    // moby.buildkit.v1: Control
    SolveRequest {
        #[prost(string, tag = "1")]
        reference: String,
        #[prost(message, optional, tag = "2")]
        definition: Option<super::link::Definition>,
        #[prost(string, tag = "3")]
        exporter: String,
        #[prost(map = "string, string", tag = "4")]
        exporter_attrs: HashMap<String, String>,
        #[prost(string, tag = "5")]
        session: String,
        #[prost(string, tag = "6")]
        frontend: String,
        #[prost(map = "string, string", tag = "7")]
        frontend_attrs: HashMap<String, String>,
        #[prost(message, optional, tag = "8")]
        cache: Option<CacheOptions>,
        #[prost(string, repeated, tag = "9")]
        entitlements: Vec<String>,
        #[prost(map = "string, message", tag = "10")]
        frontend_inputs: HashMap<String, super::link::Definition>,
        #[prost(bool, tag = "11")]
        internal: bool,
        #[prost(message, repeated, tag = "13")]
        exporters: Vec<Exporter>,
    }
    Exporter {
        #[prost(string, tag = "1")]
        kind: String,
        #[prost(map = "string, string", tag = "2")]
        attrs: HashMap<String, String>,
    }
    CacheOptions {
        #[prost(message, repeated, tag = "4")]
        exports: Vec<CacheEntry>,
        #[prost(message, repeated, tag = "5")]
        imports: Vec<CacheEntry>,
    }
    CacheEntry {
        #[prost(string, tag = "1")]
        kind: String,
        #[prost(map = "string, string", tag = "2")]
        attrs: HashMap<String, String>,
    }
    SolveResponse {
        #[prost(map = "string, string", tag = "1")]
        exporter_response: HashMap<String, String>,
    }
    StatusRequest {
        #[prost(string, tag = "1")]
        reference: String,
    }
    StatusResponse {
        #[prost(message, repeated, tag = "1")]
        vertexes: Vec<Vertex>,
        #[prost(message, repeated, tag = "2")]
        statuses: Vec<VertexStatus>,
        #[prost(message, repeated, tag = "3")]
        logs: Vec<VertexLog>,
        #[prost(message, repeated, tag = "4")]
        warnings: Vec<VertexWarning>,
    }
    Vertex {
        #[prost(string, tag = "1")]
        digest: String,
        #[prost(string, repeated, tag = "2")]
        inputs: Vec<String>,
        #[prost(string, tag = "3")]
        name: String,
        #[prost(bool, tag = "4")]
        cached: bool,
        #[prost(message, optional, tag = "5")]
        started: Option<Timestamp>,
        #[prost(message, optional, tag = "6")]
        completed: Option<Timestamp>,
        #[prost(string, tag = "7")]
        error: String,
    }
    VertexStatus {
        #[prost(string, tag = "1")]
        id: String,
        #[prost(string, tag = "2")]
        vertex: String,
        #[prost(string, tag = "3")]
        name: String,
        #[prost(int64, tag = "4")]
        current: i64,
        #[prost(int64, tag = "5")]
        total: i64,
        #[prost(message, optional, tag = "6")]
        timestamp: Option<Timestamp>,
        #[prost(message, optional, tag = "7")]
        started: Option<Timestamp>,
        #[prost(message, optional, tag = "8")]
        completed: Option<Timestamp>,
    }
    VertexLog {
        #[prost(string, tag = "1")]
        vertex: String,
        #[prost(message, optional, tag = "2")]
        timestamp: Option<Timestamp>,
        #[prost(int64, tag = "3")]
        stream: i64,
        #[prost(bytes = "vec", tag = "4")]
        msg: Vec<u8>,
    }
    VertexWarning {
        #[prost(string, tag = "1")]
        vertex: String,
        #[prost(int64, tag = "2")]
        level: i64,
        #[prost(bytes = "vec", tag = "3")]
        short: Vec<u8>,
        #[prost(bytes = "vec", repeated, tag = "4")]
        detail: Vec<Vec<u8>>,
        #[prost(string, tag = "5")]
        url: String,
        #[prost(message, optional, tag = "6")]
        info: Option<SourceInfo>,
        #[prost(message, repeated, tag = "7")]
        ranges: Vec<Range>,
    }
    SourceInfo {
        #[prost(string, tag = "1")]
        filename: String,
        #[prost(bytes = "vec", tag = "2")]
        data: Vec<u8>,
        #[prost(string, tag = "4")]
        language: String,
    }
    Range {
        #[prost(message, optional, tag = "1")]
        start: Option<Position>,
        #[prost(message, optional, tag = "2")]
        end: Option<Position>,
    }
    Position {
        #[prost(int32, tag = "1")]
        line: i32,
        #[prost(int32, tag = "2")]
        character: i32,
    }
    BytesMessage {
        #[prost(bytes = "vec", tag = "1")]
        data: Vec<u8>,
    }
    ListWorkersResponse {
        #[prost(message, repeated, tag = "1")]
        record: Vec<WorkerRecord>,
    }
    WorkerRecord {
        #[prost(string, tag = "1")]
        id: String,
        #[prost(map = "string, string", tag = "2")]
        labels: HashMap<String, String>,
        #[prost(message, repeated, tag = "3")]
        platforms: Vec<Platform>,
        #[prost(message, optional, tag = "5")]
        version: Option<Version>,
    }
    Platform {
        #[prost(string, tag = "1")]
        architecture: String,
        #[prost(string, tag = "2")]
        os: String,
        #[prost(string, tag = "3")]
        variant: String,
    }
    Version {
        #[prost(string, tag = "1")]
        package: String,
        #[prost(string, tag = "2")]
        version: String,
        #[prost(string, tag = "3")]
        revision: String,
    }
    InfoResponse {
        #[prost(message, optional, tag = "1")]
        version: Option<Version>,
    }
    DiskUsageRequest {
        #[prost(string, repeated, tag = "1")]
        filter: Vec<String>,
    }
    DiskUsageResponse {
        #[prost(message, repeated, tag = "1")]
        record: Vec<UsageRecord>,
    }
    UsageRecord {
        #[prost(string, tag = "1")]
        id: String,
        #[prost(bool, tag = "2")]
        mutable: bool,
        #[prost(bool, tag = "3")]
        in_use: bool,
        #[prost(int64, tag = "4")]
        size: i64,
        #[prost(message, optional, tag = "6")]
        created_at: Option<Timestamp>,
        #[prost(message, optional, tag = "7")]
        last_used_at: Option<Timestamp>,
        #[prost(int64, tag = "8")]
        usage_count: i64,
        #[prost(string, tag = "9")]
        description: String,
        #[prost(string, tag = "10")]
        record_type: String,
        #[prost(bool, tag = "11")]
        shared: bool,
    }
    PruneRequest {
        #[prost(string, repeated, tag = "1")]
        filter: Vec<String>,
        #[prost(bool, tag = "2")]
        all: bool,
        #[prost(int64, tag = "3")]
        keep_duration: i64,
    }
    HistoryRequest {
        #[prost(bool, tag = "1")]
        active_only: bool,
        #[prost(string, tag = "2")]
        reference: String,
        #[prost(bool, tag = "3")]
        early_exit: bool,
        #[prost(string, repeated, tag = "4")]
        filter: Vec<String>,
        #[prost(int32, tag = "5")]
        limit: i32,
    }
    HistoryEvent {
        #[prost(int32, tag = "1")]
        kind: i32,
        #[prost(message, optional, tag = "2")]
        record: Option<HistoryRecord>,
    }
    HistoryRecord {
        #[prost(string, tag = "1")]
        reference: String,
        #[prost(string, tag = "2")]
        frontend: String,
        #[prost(map = "string, string", tag = "3")]
        frontend_attrs: HashMap<String, String>,
        #[prost(message, repeated, tag = "4")]
        exporters: Vec<Exporter>,
        #[prost(message, optional, tag = "5")]
        error: Option<RpcStatus>,
        #[prost(message, optional, tag = "6")]
        created_at: Option<Timestamp>,
        #[prost(message, optional, tag = "7")]
        completed_at: Option<Timestamp>,
        #[prost(map = "string, string", tag = "9")]
        exporter_response: HashMap<String, String>,
        #[prost(bool, tag = "14")]
        pinned: bool,
        #[prost(int32, tag = "15")]
        cached_steps: i32,
        #[prost(int32, tag = "16")]
        total_steps: i32,
        #[prost(int32, tag = "17")]
        completed_steps: i32,
        #[prost(int32, tag = "19")]
        warnings: i32,
    }
    UpdateHistoryRequest {
        #[prost(string, tag = "1")]
        reference: String,
        #[prost(bool, tag = "2")]
        pinned: bool,
        #[prost(bool, tag = "3")]
        delete: bool,
    }

    // moby.buildkit.v1.frontend: LLBBridge
    BridgeSolveRequest {
        #[prost(message, optional, tag = "1")]
        definition: Option<super::link::Definition>,
        #[prost(string, tag = "2")]
        frontend: String,
        #[prost(map = "string, string", tag = "3")]
        frontend_opt: HashMap<String, String>,
        #[prost(map = "string, message", tag = "13")]
        frontend_inputs: HashMap<String, super::link::Definition>,
    }
    BridgeSolveResponse {
        #[prost(message, optional, tag = "3")]
        result: Option<BridgeResult>,
    }
    BridgeResult {
        #[prost(message, optional, tag = "3")]
        reference: Option<Ref>,
        #[prost(map = "string, bytes", tag = "10")]
        metadata: HashMap<String, Vec<u8>>,
    }
    Ref {
        #[prost(string, tag = "1")]
        id: String,
        #[prost(message, optional, tag = "2")]
        definition: Option<super::link::Definition>,
    }
    EvaluateRequest {
        #[prost(string, tag = "1")]
        reference: String,
    }
    HealthResponse {
        #[prost(int32, tag = "1")]
        status: i32,
    }
    ReturnRequest {
        #[prost(message, optional, tag = "1")]
        result: Option<BridgeResult>,
        #[prost(message, optional, tag = "2")]
        error: Option<RpcStatus>,
    }
    PongResponse {
        #[prost(message, repeated, tag = "1")]
        frontend_caps: Vec<Cap>,
        #[prost(message, repeated, tag = "2")]
        llb_caps: Vec<Cap>,
        #[prost(message, repeated, tag = "3")]
        workers: Vec<WorkerRecord>,
    }
    Cap {
        #[prost(string, tag = "1")]
        id: String,
        #[prost(bool, tag = "2")]
        enabled: bool,
    }

    // fsutil.types
    Packet {
        #[prost(int32, tag = "1")]
        kind: i32,
        #[prost(message, optional, tag = "2")]
        stat: Option<Stat>,
        #[prost(uint32, tag = "3")]
        id: u32,
        #[prost(bytes = "vec", tag = "4")]
        data: Vec<u8>,
    }
    Stat {
        #[prost(string, tag = "1")]
        path: String,
        #[prost(uint32, tag = "2")]
        mode: u32,
        #[prost(uint32, tag = "3")]
        uid: u32,
        #[prost(uint32, tag = "4")]
        gid: u32,
        #[prost(int64, tag = "5")]
        size: i64,
        #[prost(int64, tag = "6")]
        mod_time: i64,
        #[prost(string, tag = "7")]
        linkname: String,
        #[prost(int64, tag = "8")]
        devmajor: i64,
        #[prost(int64, tag = "9")]
        devminor: i64,
    }

    // moby.filesync.v1, moby.buildkit.secrets.v1, moby.sshforward.v1
    CredentialsRequest {
        #[prost(string, tag = "1")]
        host: String,
    }
    CredentialsResponse {
        #[prost(string, tag = "1")]
        username: String,
        #[prost(string, tag = "2")]
        secret: String,
    }
    SecretRequest {
        #[prost(string, tag = "1")]
        id: String,
    }
    SecretResponse {
        #[prost(bytes = "vec", tag = "1")]
        data: Vec<u8>,
    }
    AgentRequest {
        #[prost(string, tag = "1")]
        id: String,
    }
}
