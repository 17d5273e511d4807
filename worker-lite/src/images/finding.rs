//! What the process that looks into an image is told, and what it tells.

use hg_proto::v1;
use prost::Message;

/// First word of this program's command line in the process that looks.
pub const WORD: &str = "--look-into";
/// Variables of an image that say where its compilers are: cross-compilers' images name
/// them so (dockcross, and many that follow it).
pub const VARIABLES: [&str; 4] = ["PATH", "CC", "CXX", "CROSS_TRIPLE"];

/// A compiler that was found, as the process that looks tells of it.
#[derive(Clone, PartialEq, Message)]
pub struct Finding {
    /// Absolute path of the driver.
    #[prost(bytes = "vec", tag = "1")]
    pub driver: Vec<u8>,
    /// Why it is not offered; empty: it is.
    #[prost(string, tag = "2")]
    pub refusal: String,
    /// Folder of its assembler, which it needs in PATH first; empty: none.
    #[prost(bytes = "vec", tag = "3")]
    pub path_first: Vec<u8>,
    /// Its identity wherever it lies.
    #[prost(message, optional, tag = "4")]
    pub toolchain: Option<v1::Toolchain>,
    /// Its identity where it lies.
    #[prost(message, optional, tag = "5")]
    pub tree: Option<v1::Toolchain>,
    /// All its files.
    #[prost(message, optional, tag = "6")]
    pub list: Option<v1::Shipment>,
    /// Where each content of `list` is, in the order of their digests.
    #[prost(bytes = "vec", repeated, tag = "7")]
    pub sources: Vec<Vec<u8>>,
}
