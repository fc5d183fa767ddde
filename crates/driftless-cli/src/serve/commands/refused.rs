//! The commands of Redis that this server refuses, each with the reason and with what to use instead. Their error has
//! a code of its own, `UNSUPPORTED`.

use super::lower;

const CHANGE: &str = "reads a value, changes it and writes it back. Here the last writer wins, so that a change that \
     another node makes at the same time would be lost. Keep counters and appended values in your database or in a \
     Redis server, or write whole values with SET";
const COLLECTION: &str = "works on a collection, and this cache holds strings only. Store the collection as one \
     serialised value with SET, or keep it in a Redis server";
const SCRIPT: &str = "runs code that reads and writes as one step, which no node can do for other nodes. Locks need \
     one place that decides: use a database or a Redis server";
const WATCH: &str = "would promise that EXEC fails after any change meanwhile, and this node cannot know what other \
     nodes write meanwhile. Use MULTI without WATCH for an ordered batch, or a database for compare-and-set";
const PUBSUB: &str = "is publish and subscribe, and this cache only reports changes of keys. Use CLIENT TRACKING, or \
     subscribe to __redis__:invalidate";
const DISK: &str = "is about files or replicas of a Redis server. Here every node holds the data in memory, and new \
     nodes fetch it from each other; see INFO DRIFTLESS and the command WAIT";
const RENAME: &str = "moves a value between keys, and other nodes could see both keys or none. Use GET, SET and DEL";
const CLUSTER: &str = "ERR This instance has cluster support disabled";
const TOOLS: &str = "is a tool of the Redis server. Use INFO, CLIENT LIST, the page at --http, or `driftless explain`";

const REFUSED: &[(&str, &[&str])] = &[
    (CHANGE, &["incr", "incrby", "incrbyfloat", "decr", "decrby", "append", "setrange", "setbit", "bitfield", "bitop"]),
    (
        COLLECTION,
        &[
            "lpush",
            "rpush",
            "lpushx",
            "rpushx",
            "lpop",
            "rpop",
            "llen",
            "lrange",
            "lindex",
            "linsert",
            "lset",
            "lrem",
            "ltrim",
            "lpos",
            "lmove",
            "lmpop",
            "rpoplpush",
            "blpop",
            "brpop",
            "blmove",
            "blmpop",
            "brpoplpush",
            "sadd",
            "srem",
            "smembers",
            "sismember",
            "smismember",
            "scard",
            "spop",
            "srandmember",
            "smove",
            "sinter",
            "sunion",
            "sdiff",
            "sinterstore",
            "sunionstore",
            "sdiffstore",
            "sintercard",
            "sscan",
            "hset",
            "hsetnx",
            "hmset",
            "hget",
            "hmget",
            "hgetall",
            "hdel",
            "hlen",
            "hexists",
            "hkeys",
            "hvals",
            "hincrby",
            "hincrbyfloat",
            "hstrlen",
            "hrandfield",
            "hscan",
            "hexpire",
            "hgetdel",
            "hgetex",
            "hsetex",
            "zadd",
            "zrem",
            "zscore",
            "zmscore",
            "zrank",
            "zrevrank",
            "zrange",
            "zrevrange",
            "zrangebyscore",
            "zrevrangebyscore",
            "zrangebylex",
            "zrevrangebylex",
            "zrangestore",
            "zcard",
            "zcount",
            "zlexcount",
            "zincrby",
            "zpopmin",
            "zpopmax",
            "bzpopmin",
            "bzpopmax",
            "zmpop",
            "bzmpop",
            "zinter",
            "zunion",
            "zdiff",
            "zinterstore",
            "zunionstore",
            "zdiffstore",
            "zintercard",
            "zrandmember",
            "zremrangebyrank",
            "zremrangebyscore",
            "zremrangebylex",
            "zscan",
            "xadd",
            "xread",
            "xrange",
            "xrevrange",
            "xlen",
            "xdel",
            "xtrim",
            "xgroup",
            "xreadgroup",
            "xack",
            "xclaim",
            "xautoclaim",
            "xinfo",
            "xpending",
            "xsetid",
            "pfadd",
            "pfcount",
            "pfmerge",
            "geoadd",
            "geodist",
            "geohash",
            "geopos",
            "georadius",
            "georadiusbymember",
            "geosearch",
            "geosearchstore",
            "sort",
            "sort_ro",
            "getbit",
            "bitcount",
            "bitpos",
            "bitfield_ro",
            "lcs",
        ],
    ),
    (SCRIPT, &["eval", "evalsha", "eval_ro", "evalsha_ro", "script", "fcall", "fcall_ro", "function"]),
    (WATCH, &["watch"]),
    (PUBSUB, &["publish", "spublish", "psubscribe", "ssubscribe", "sunsubscribe", "pubsub"]),
    (
        DISK,
        &[
            "save",
            "bgsave",
            "bgrewriteaof",
            "lastsave",
            "dump",
            "restore",
            "migrate",
            "replicaof",
            "slaveof",
            "sync",
            "psync",
            "replconf",
            "failover",
            "waitaof",
            "shutdown",
            "move",
            "swapdb",
        ],
    ),
    (RENAME, &["rename", "renamenx", "copy"]),
    (CLUSTER, &["cluster", "readonly", "readwrite", "asking"]),
    (TOOLS, &["debug", "monitor", "slowlog", "latency", "acl", "lolwut"]),
];

/// Returns the error of a command that is refused; `None` if Redis has no such command either.
pub fn reason(name: &[u8]) -> Option<String> {
    let name = lower(name);
    let (reason, _) = REFUSED.iter().find(|(_, names)| names.iter().any(|known| known.as_bytes() == name))?;
    if reason.starts_with("ERR ") {
        return Some((*reason).to_owned());
    }
    Some(format!("UNSUPPORTED '{}' {reason}.", String::from_utf8_lossy(&name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_name_the_command_and_the_way_out() {
        let told = reason(b"InCr").expect("refused");
        assert!(told.starts_with("UNSUPPORTED 'incr' reads a value"), "{told}");
        assert!(told.contains("database"), "{told}");
        assert_eq!(reason(b"cluster").as_deref(), Some(CLUSTER));
        assert_eq!(reason(b"nonsense"), None);
        assert!(REFUSED.iter().all(|(reason, _)| !reason.contains(['\n', '\r'])));
    }
}
