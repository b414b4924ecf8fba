//! Three nodes of etcd, and its client.
//!
//! The client speaks gRPC as etcd's own ones do, with the messages of `rpc.proto` that are needed here.

use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic_prost::ProstCodec;

use crate::Result;
use crate::process::{self, Process};

const COUNT: usize = 3;
/// What all keys begin with, and what follows them all.
const KEYS: [&[u8]; 2] = [b"t/", b"t0"];

#[derive(Clone, PartialEq, prost::Message)]
struct PutRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PutResponse {}

#[derive(Clone, PartialEq, prost::Message)]
struct RangeRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    range_end: Vec<u8>,
    #[prost(bool, tag = "9")]
    count_only: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RangeResponse {
    #[prost(int64, tag = "4")]
    count: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StatusRequest {}

#[derive(Clone, PartialEq, prost::Message)]
struct StatusResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<ResponseHeader>,
    #[prost(uint64, tag = "4")]
    leader: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ResponseHeader {
    #[prost(uint64, tag = "2")]
    member_id: u64,
}

/// Three nodes.
#[derive(Debug)]
pub(crate) struct Etcd {
    /// The one that leads.
    leader: String,
    _processes: Vec<Process>,
}

/// One connection, to the node that leads: another one would send the writes there.
#[derive(Debug)]
pub(crate) struct EtcdClient(Grpc<Channel>);

impl Etcd {
    pub(crate) async fn start(directory: &Path) -> Result<Self> {
        let program = process::program("etcd", &[])?;
        process::directory(directory)?;
        let peers: [u16; COUNT] = process::free_ports()?;
        let clients: [u16; COUNT] = process::free_ports()?;
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let members: Vec<String> = (0..COUNT)
            .map(|place| format!("etcd-{place}={}", url(peers[place])))
            .collect();
        let mut processes = Vec::new();
        for place in 0..COUNT {
            let name = format!("etcd-{place}");
            let mut command = Command::new(&program);
            command.args(["--name", &name, "--initial-cluster-state", "new"]);
            command.arg("--data-dir").arg(directory.join(&name));
            command.args(["--initial-cluster", &members.join(",")]);
            for (option, port) in [
                ("--listen-peer-urls", peers[place]),
                ("--initial-advertise-peer-urls", peers[place]),
                ("--listen-client-urls", clients[place]),
                ("--advertise-client-urls", clients[place]),
            ] {
                command.args([option, &url(port)]);
            }
            let started = Process::start(&name, directory, Signal::KILL, &mut command);
            processes.push(started?);
        }
        let leader = process::until("etcd elects a leader", &mut processes, async || {
            for port in clients {
                if EtcdClient::connect(&url(port)).await?.leads().await? {
                    return Ok(url(port));
                }
            }
            Err("none leads".into())
        });
        let leader = leader.await?;
        Ok(Self {
            leader,
            _processes: processes,
        })
    }

    pub(crate) async fn client(&self) -> Result<EtcdClient> {
        EtcdClient::connect(&self.leader).await
    }
}

impl EtcdClient {
    async fn connect(url: &str) -> Result<Self> {
        let channel = Channel::from_shared(url.to_owned())?.connect().await?;
        Ok(Self(Grpc::new(channel)))
    }

    pub(crate) async fn put(&mut self, client: u32, number: i64, value: &str) -> Result<()> {
        let request = PutRequest {
            key: format!("t/{client}/{number}").into_bytes(),
            value: value.as_bytes().to_vec(),
        };
        let PutResponse {} = self.call("/etcdserverpb.KV/Put", request).await?;
        Ok(())
    }

    pub(crate) async fn count(&mut self) -> Result<i64> {
        let [key, range_end] = KEYS.map(<[u8]>::to_vec);
        let request = RangeRequest {
            key,
            range_end,
            count_only: true,
        };
        let response: RangeResponse = self.call("/etcdserverpb.KV/Range", request).await?;
        Ok(response.count)
    }

    async fn leads(&mut self) -> Result<bool> {
        let path = "/etcdserverpb.Maintenance/Status";
        let status: StatusResponse = self.call(path, StatusRequest {}).await?;
        let id = status.header.map(|header| header.member_id);
        Ok(id == Some(status.leader))
    }

    async fn call<Q, A>(&mut self, path: &'static str, request: Q) -> Result<A>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        self.0.ready().await?;
        let path = PathAndQuery::from_static(path);
        let codec = ProstCodec::<Q, A>::default();
        let response = self.0.unary(tonic::Request::new(request), path, codec);
        Ok(response.await?.into_inner())
    }
}
