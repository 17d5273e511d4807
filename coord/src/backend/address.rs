//! The one URL that says where a backend is and how it is used. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use opendal::OperatorUri;

use crate::bounds::BACKEND_READ_MS_DEFAULT;

/// What kinds of backend there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An object store that speaks S3.
    S3,
    /// Redis, or what speaks its protocol.
    Redis,
    /// A folder, as of a network's file system.
    Folder,
}

/// See the top of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// What kind it is of.
    pub kind: Kind,
    /// The URL without what only says how it is used.
    pub base: String,
    /// What the service itself is told, by its own names.
    pub options: BTreeMap<String, String>,
    /// The service's user, where the URL names one.
    pub user: Option<String>,
    /// Where in the service results lie.
    pub folder: String,
    /// Nothing is put there.
    pub is_read_only: bool,
    /// What a look may take.
    pub read_time_max: Duration,
}

/// Schemes, the kind of each, and the options of its service that the URL may have.
const SCHEMES: [(&str, Kind, &[&str]); 5] = [
    ("s3", Kind::S3, &S3_OPTIONS),
    ("redis", Kind::Redis, &["db"]),
    ("rediss", Kind::Redis, &["db"]),
    ("redis+unix", Kind::Redis, &["db"]),
    ("fs", Kind::Folder, &[]),
];
const S3_OPTIONS: [&str; 8] = [
    "checksum_algorithm",
    "default_storage_class",
    "enable_virtual_host_style",
    "endpoint",
    "profile",
    "region",
    "role_arn",
    "server_side_encryption",
];
/// Options by which people hand secrets over, in the URL that everybody sees.
const SECRETS: [&str; 7] = [
    "access_key_id",
    "aws_access_key_id",
    "aws_secret_access_key",
    "aws_session_token",
    "password",
    "secret_access_key",
    "session_token",
];
const EXAMPLES: &str = "s3://BUCKET/FOLDER?region=REGION, redis://HOST:PORT/FOLDER, \
                        rediss://HOST:PORT, redis+unix:///SOCKET or fs:///FOLDER";
const NO_SECRETS: &str = "a URL is no place for a password: Redis's is taken from \
                          REDISCLI_AUTH, S3's keys from AWS_ACCESS_KEY_ID and \
                          AWS_SECRET_ACCESS_KEY or from ~/.aws/credentials";
/// What a look may take, at least and at most.
const READ_TIMES: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_secs(10);

impl Address {
    /// What `text` means.
    ///
    /// # Errors
    /// In words: what is wrong with it, and how it should look. A secret in it is not
    /// repeated.
    pub fn parse(text: &str) -> Result<Address, String> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(format!("it takes a URL, as in {EXAMPLES}"));
        };
        let scheme = scheme.to_ascii_lowercase();
        let known = SCHEMES.iter().find(|(name, ..)| *name == scheme);
        let Some((_, kind, known)) = known else {
            return Err(format!(
                "{scheme}:// is no backend that is known; there are {EXAMPLES}"
            ));
        };
        let uri = OperatorUri::new(text, []).map_err(|error| format!("no URL: {error}"))?;
        if uri.password().is_some() {
            return Err(NO_SECRETS.into());
        }
        let mut address = Address {
            kind: *kind,
            base: format!("{scheme}://{}", authority_and_path(rest)),
            options: BTreeMap::new(),
            user: uri.username().map(str::to_owned),
            folder: uri.root().unwrap_or_default().to_owned(),
            is_read_only: false,
            read_time_max: Duration::from_millis(BACKEND_READ_MS_DEFAULT),
        };
        for (name, value) in uri.options() {
            address.take(name, value, known)?;
        }
        address.check(&scheme, &uri)?;
        Ok(address)
    }

    fn take(&mut self, name: &str, value: &str, known: &[&str]) -> Result<(), String> {
        match name {
            "read-only" => match value {
                "" | "true" => self.is_read_only = true,
                "false" => self.is_read_only = false,
                _ => return Err(format!("read-only={value}: true or false")),
            },
            "timeout" => {
                let time = humantime::parse_duration(value);
                let time = time.ok().filter(|time| READ_TIMES.contains(time));
                self.read_time_max =
                    time.ok_or_else(|| format!("timeout={value}: 1ms to 10s, as in 250ms"))?;
            }
            secret if SECRETS.contains(&secret) => return Err(NO_SECRETS.into()),
            name if known.contains(&name) => {
                self.options.insert(name.to_owned(), value.to_owned());
            }
            _ => {
                let mut all = known.to_vec();
                all.extend(["read-only", "timeout"]);
                all.sort_unstable();
                return Err(format!(
                    "{name}= is no option of it; there are {}",
                    all.join(", ")
                ));
            }
        }
        Ok(())
    }

    /// Whether it names a place.
    fn check(&mut self, scheme: &str, uri: &OperatorUri) -> Result<(), String> {
        let is_local = matches!(scheme, "fs" | "redis+unix");
        match (is_local, uri.authority()) {
            (true, Some(host)) => Err(format!(
                "{scheme}://{host}: it takes a path of this machine, with three strokes: \
                 {scheme}:///PATH"
            )),
            (true, None) if self.folder.is_empty() => {
                Err(format!("{scheme}:///PATH: there is no path in it"))
            }
            (false, None) => Err(match self.kind {
                Kind::S3 => "s3://BUCKET/FOLDER: there is no bucket in it".into(),
                _ => format!("{scheme}://HOST:PORT: there is no host in it"),
            }),
            _ => Ok(()),
        }?;
        if scheme == "redis+unix" {
            // The path is that of the socket.
            self.folder = String::new();
        }
        if let Some(db) = self.options.get("db")
            && db.parse::<u32>().is_err()
        {
            return Err(format!("db={db}: the number of a database, as in 2"));
        }
        Ok(())
    }

    /// As it may be shown to anybody.
    pub fn shown(&self) -> &str {
        &self.base
    }

    /// HOST:PORT, or the bucket.
    pub fn authority(&self) -> &str {
        let rest = self.base.split_once("://").map_or("", |(_, rest)| rest);
        rest.split('/').next().unwrap_or_default()
    }
}

/// What is before the options, without a user.
fn authority_and_path(rest: &str) -> &str {
    let end = rest.find(['?', '#']).unwrap_or(rest.len());
    let (authority, _) = rest[..end].split_once('/').unwrap_or((&rest[..end], ""));
    let begin = authority.rfind('@').map_or(0, |at| at + 1);
    rest[begin..end].trim_end_matches('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_where_and_how() {
        let s3 = "s3://bucket/a/b?region=eu-west-1&endpoint=http://h:1&timeout=250ms&read-only";
        let s3 = Address::parse(s3).unwrap();
        assert_eq!((s3.kind, &*s3.folder), (Kind::S3, "a/b"));
        assert_eq!(s3.authority(), "bucket");
        assert_eq!(s3.options["endpoint"], "http://h:1");
        assert_eq!(s3.read_time_max, Duration::from_millis(250));
        assert!(s3.is_read_only && s3.options.len() == 2);
        let redis = Address::parse("redis://me@cache:6379/team/?db=2").unwrap();
        assert_eq!(redis.user.as_deref(), Some("me"));
        assert_eq!(redis.shown(), "redis://cache:6379/team");
        assert_eq!((redis.authority(), &*redis.folder), ("cache:6379", "team"));
        assert!(!redis.is_read_only);
        let socket = Address::parse("redis+unix:///run/redis.sock").unwrap();
        assert_eq!(socket.shown(), "redis+unix:///run/redis.sock");
        assert_eq!(socket.folder, "");
        let folder = Address::parse("fs:///mnt/cache").unwrap();
        assert_eq!((folder.kind, &*folder.folder), (Kind::Folder, "mnt/cache"));
    }

    #[test]
    fn what_is_wrong_is_named_and_no_secret_is_repeated() {
        let wrong = [
            ("cache", "takes a URL"),
            ("ftp://host/x", "ftp:// is no backend"),
            ("s3://?region=x", "no bucket"),
            ("redis:///x", "no host"),
            ("fs://mnt/cache", "three strokes"),
            ("fs:///", "no path"),
            ("redis://h?db=x", "db=x"),
            ("redis://h?region=x", "region= is no option"),
            ("s3://b?timeout=1h", "1ms to 10s"),
            ("s3://b?timeout=soon", "1ms to 10s"),
            ("s3://b?read-only=perhaps", "true or false"),
            ("redis://:hunter2@h:1", "REDISCLI_AUTH"),
            ("redis://h?password=hunter2", "REDISCLI_AUTH"),
            ("s3://b?secret_access_key=hunter2", "AWS_SECRET_ACCESS_KEY"),
        ];
        for (text, words) in wrong {
            let why = Address::parse(text).unwrap_err();
            assert!(why.contains(words), "{text}: {why}");
            assert!(!why.contains("hunter2"), "{why}");
        }
    }
}
