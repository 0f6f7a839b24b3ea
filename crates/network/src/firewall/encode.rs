//! nf_tables in netlink messages: tables, chains, sets, elements and rules (`linux/netfilter/nf_tables.h`). Only what
//! the rules of `base` are made of; which rules there are is decided there.

use linux::netlink::{ACK, APPEND, Batch, CREATE};

/// One nf_tables transaction: all of it happens, or nothing.
pub(super) struct Transaction {
    pub(super) batch: Batch,
    table: String,
    sets: u32,
    /// How many rules it appends.
    pub(super) rules: usize,
}

const SUBSYSTEM: u16 = 10 << 8;
const INET: u8 = 1;
const NEWTABLE: u16 = SUBSYSTEM;
const DELTABLE: u16 = SUBSYSTEM | 2;
const NEWCHAIN: u16 = SUBSYSTEM | 3;
const NEWRULE: u16 = SUBSYSTEM | 6;
const DELRULE: u16 = SUBSYSTEM | 8;
const NEWSET: u16 = SUBSYSTEM | 9;
const NEWSETELEM: u16 = SUBSYSTEM | 12;
const DELSETELEM: u16 = SUBSYSTEM | 14;
/// Elements in one message: an attribute is shorter than 64 KiB.
const ELEMENTS: usize = 400;

/// `struct nfgenmsg` of a family.
pub(super) fn header(family: u8) -> [u8; 4] {
    [family, 0, 0, 0]
}

/// Where a base chain is hooked in.
pub(super) struct Hook {
    pub(super) kind: &'static str,
    pub(super) number: u32,
    pub(super) priority: i32,
}

/// Types of keys and data as nft(8) knows them, with their length in registers.
#[derive(Clone, Copy)]
pub(super) enum Type {
    Ip4,
    Ip6,
    Protocol,
    Service,
    Device,
}

impl Type {
    fn id(self) -> u32 {
        match self {
            Type::Ip4 => 7,
            Type::Ip6 => 8,
            Type::Protocol => 12,
            Type::Service => 13,
            Type::Device => 41,
        }
    }

    fn length(self) -> u32 {
        match self {
            Type::Ip4 | Type::Protocol | Type::Service => 4,
            Type::Ip6 | Type::Device => 16,
        }
    }
}

/// What nft(8) wants to know in order to show keys of one part: whether they are in the host's byte order (1) or the
/// network's (2), as its own note of type 0 and length 4.
fn byte_order(key: Type) -> [u8; 6] {
    let order: u32 = if matches!(key, Type::Device) { 1 } else { 2 };
    let [a, b, c, d] = order.to_ne_bytes();
    [0, 4, a, b, c, d]
}

/// A concatenation's type: six bits for each part.
fn id_of(types: &[Type]) -> u32 {
    types.iter().fold(0, |all, one| all << 6 | one.id())
}

fn length_of(types: &[Type]) -> u32 {
    types.iter().map(|one| one.length()).sum()
}

/// What the elements of a set lead to.
#[derive(Clone, Copy)]
pub(super) enum Data {
    /// Nothing: membership is all.
    None,
    /// A value.
    Value(&'static [Type]),
    /// A verdict.
    Verdict,
}

/// A value of an element.
#[derive(Clone)]
pub(super) enum Value {
    None,
    Bytes(Vec<u8>),
    Jump(&'static str),
}

/// Jumps of verdicts, in the kernel's numbers.
pub(super) const ACCEPT: i32 = 1;
pub(super) const DROP: i32 = 0;
pub(super) const RETURN: i32 = -5;
const JUMP: i32 = -3;

impl Transaction {
    /// Begins a transaction on a table.
    pub(super) fn new(table: &str) -> Self {
        let mut batch = Batch::default();
        batch.message(0x10, 0, &[0, 0, 0, 10]);
        Transaction { batch, table: table.to_owned(), sets: 0, rules: 0 }
    }

    /// The transaction, complete.
    pub(super) fn finish(mut self) -> Batch {
        self.batch.message(0x11, 0, &[0, 0, 0, 10]);
        self.batch
    }

    fn begin(&mut self, kind: u16, flags: u16) -> &mut Batch {
        self.batch.message(kind, flags | ACK, &header(INET)).put_text(1, &self.table)
    }

    pub(super) fn table(&mut self) {
        self.begin(NEWTABLE, CREATE);
    }

    pub(super) fn delete_table(&mut self) {
        self.begin(DELTABLE, 0);
    }

    pub(super) fn chain(&mut self, name: &str, hook: Option<&Hook>) {
        let chain = self.begin(NEWCHAIN, CREATE);
        chain.put_text(3, name);
        if let Some(hook) = hook {
            chain.nest(4, |chain| {
                chain.put(1, &hook.number.to_be_bytes()).put(2, &hook.priority.to_be_bytes());
            });
            chain.put_text(7, hook.kind);
        }
    }

    /// Removes all rules of a chain.
    pub(super) fn flush_chain(&mut self, name: &str) {
        self.begin(DELRULE, 0).put_text(2, name);
    }

    pub(super) fn set(&mut self, name: &str, key: &[Type], data: Data) {
        const MAP: u32 = 8;
        const VERDICT: u32 = 0xffff_ff00;
        self.sets += 1;
        let id = self.sets;
        let set = self.begin(NEWSET, CREATE);
        let flags = if matches!(data, Data::None) { 0 } else { MAP };
        set.put_text(2, name).put(3, &u32::to_be_bytes(flags));
        set.put(4, &id_of(key).to_be_bytes()).put(5, &length_of(key).to_be_bytes());
        match data {
            Data::None => {}
            Data::Value(types) => {
                set.put(6, &id_of(types).to_be_bytes()).put(7, &length_of(types).to_be_bytes());
            }
            Data::Verdict => {
                set.put(6, &VERDICT.to_be_bytes()).put(7, &0_u32.to_be_bytes());
            }
        }
        set.put(10, &id.to_be_bytes());
        if let [one] = key {
            set.put(13, &byte_order(*one));
        }
    }

    /// Removes all elements of a set.
    pub(super) fn flush_set(&mut self, name: &str) {
        self.begin(DELSETELEM, 0).put_text(2, name);
    }

    /// Adds elements; those that are there already must lead to the same.
    pub(super) fn add(&mut self, set: &str, elements: &[(Vec<u8>, Value)]) {
        self.elements(NEWSETELEM, CREATE, set, elements);
    }

    /// Removes elements, which must be there.
    pub(super) fn remove(&mut self, set: &str, elements: &[(Vec<u8>, Value)]) {
        self.elements(DELSETELEM, 0, set, elements);
    }

    fn elements(&mut self, kind: u16, flags: u16, set: &str, elements: &[(Vec<u8>, Value)]) {
        for part in elements.chunks(ELEMENTS) {
            let message = self.begin(kind, flags);
            message.put_text(2, set).nest(3, |list| {
                for (key, value) in part {
                    list.nest(1, |element| put_element(element, key, value));
                }
            });
        }
    }

    /// Appends a rule to a chain.
    pub(super) fn rule(&mut self, chain: &str, content: impl FnOnce(&mut Rule<'_>)) {
        self.rules += 1;
        let message = self.begin(NEWRULE, CREATE | APPEND);
        message.put_text(2, chain).nest(4, |list| content(&mut Rule(list)));
    }
}

fn put_element(element: &mut Batch, key: &[u8], value: &Value) {
    element.nest(1, |element| {
        element.put(1, key);
    });
    match value {
        Value::None => {}
        Value::Bytes(bytes) => {
            element.nest(2, |element| {
                element.put(1, bytes);
            });
        }
        Value::Jump(chain) => put_verdict(element, JUMP, Some(chain)),
    }
}

/// `NFTA_SET_ELEM_DATA` and `NFTA_IMMEDIATE_DATA` have the same number.
fn put_verdict(outer: &mut Batch, code: i32, chain: Option<&str>) {
    outer.nest(2, |data| {
        data.nest(2, |verdict| {
            verdict.put(1, &code.to_be_bytes());
            if let Some(chain) = chain {
                verdict.put_text(2, chain);
            }
        });
    });
}

/// The expressions of one rule. Registers are 4 bytes each and numbered from 8; a value begins at one and takes as many
/// as it needs.
pub(super) struct Rule<'b>(pub(super) &'b mut Batch);

/// The first register.
pub(super) const FIRST: u32 = 8;

/// Properties of a packet that `meta` knows.
#[derive(Clone, Copy)]
pub(super) enum Meta {
    InputDevice = 6,
    OutputDevice = 7,
    Family = 15,
    Protocol = 16,
}

impl Rule<'_> {
    fn expression(&mut self, name: &str, content: impl FnOnce(&mut Batch)) -> &mut Self {
        self.0.nest(1, |element| {
            element.put_text(1, name).nest(2, content);
        });
        self
    }

    pub(super) fn meta(&mut self, key: Meta, register: u32) -> &mut Self {
        self.expression("meta", |meta| {
            meta.put(1, &register.to_be_bytes()).put(2, &(key as u32).to_be_bytes());
        })
    }

    /// Bytes of the network header (base 1) or the transport header (base 2).
    fn payload(&mut self, base: u32, offset: u32, length: u32, register: u32) -> &mut Self {
        self.expression("payload", |payload| {
            payload.put(1, &register.to_be_bytes()).put(2, &base.to_be_bytes());
            payload.put(3, &offset.to_be_bytes()).put(4, &length.to_be_bytes());
        })
    }

    /// Only packets of this family.
    pub(super) fn family(&mut self, v4: bool) -> &mut Self {
        let number = if v4 { libc::AF_INET } else { libc::AF_INET6 } as u8;
        self.meta(Meta::Family, FIRST).equals(FIRST, &[number])
    }

    pub(super) fn source(&mut self, v4: bool, register: u32) -> &mut Self {
        if v4 { self.payload(1, 12, 4, register) } else { self.payload(1, 8, 16, register) }
    }

    pub(super) fn destination(&mut self, v4: bool, register: u32) -> &mut Self {
        if v4 { self.payload(1, 16, 4, register) } else { self.payload(1, 24, 16, register) }
    }

    /// Transport protocol and destination port, in two registers.
    pub(super) fn service(&mut self, register: u32) -> &mut Self {
        self.meta(Meta::Protocol, register).payload(2, 2, 2, register + 1)
    }

    /// Only packets of this protocol whose port, at `offset` of the transport header, is this one.
    pub(super) fn port(&mut self, protocol: u8, offset: u32, port: u16) -> &mut Self {
        self.meta(Meta::Protocol, FIRST).equals(FIRST, &[protocol]);
        self.payload(2, offset, 2, FIRST).equals(FIRST, &port.to_be_bytes())
    }

    /// Rewrites the port at `offset` of the transport header, whose checksum is at `checksum`.
    pub(super) fn set_port(&mut self, offset: u32, port: u16, checksum: u32) -> &mut Self {
        const INTERNET_CHECKSUM: u32 = 1;
        self.expression("immediate", |immediate| {
            immediate.put(1, &FIRST.to_be_bytes()).nest(2, |data| {
                data.put(1, &port.to_be_bytes());
            });
        });
        self.expression("payload", |payload| {
            payload.put(5, &FIRST.to_be_bytes()).put(2, &2_u32.to_be_bytes());
            payload.put(3, &offset.to_be_bytes()).put(4, &2_u32.to_be_bytes());
            payload.put(6, &INTERNET_CHECKSUM.to_be_bytes()).put(7, &checksum.to_be_bytes());
        })
    }

    /// Only packets for a socket that has an address of somebody else's.
    pub(super) fn transparent(&mut self) -> &mut Self {
        const TRANSPARENT: u32 = 0;
        self.expression("socket", |socket| {
            socket.put(1, &TRANSPARENT.to_be_bytes()).put(2, &FIRST.to_be_bytes());
        });
        self.equals(FIRST, &[1])
    }

    /// Gives the packet a mark.
    pub(super) fn set_mark(&mut self, mark: u32) -> &mut Self {
        const KEY: u32 = 3;
        self.expression("immediate", |immediate| {
            immediate.put(1, &FIRST.to_be_bytes()).nest(2, |data| {
                data.put(1, &mark.to_ne_bytes());
            });
        });
        self.expression("meta", |meta| {
            meta.put(2, &KEY.to_be_bytes()).put(3, &FIRST.to_be_bytes());
        })
    }

    pub(super) fn equals(&mut self, register: u32, value: &[u8]) -> &mut Self {
        self.compare(register, 0, value)
    }

    pub(super) fn differs(&mut self, register: u32, value: &[u8]) -> &mut Self {
        self.compare(register, 1, value)
    }

    fn compare(&mut self, register: u32, operator: u32, value: &[u8]) -> &mut Self {
        self.expression("cmp", |cmp| {
            cmp.put(1, &register.to_be_bytes()).put(2, &operator.to_be_bytes()).nest(3, |data| {
                data.put(1, value);
            });
        })
    }

    /// Keeps the bits of a mask.
    pub(super) fn mask(&mut self, register: u32, mask: &[u8]) -> &mut Self {
        let zeros = vec![0; mask.len()];
        self.expression("bitwise", |bitwise| {
            bitwise.put(1, &register.to_be_bytes()).put(2, &register.to_be_bytes());
            bitwise.put(3, &(mask.len() as u32).to_be_bytes());
            bitwise.nest(4, |data| {
                data.put(1, mask);
            });
            bitwise.nest(5, |data| {
                data.put(1, &zeros);
            });
        })
    }

    /// Connection tracking: the state (0) or the status (2), of which one of these bits must be set.
    pub(super) fn connection(&mut self, key: u32, bits: u32) -> &mut Self {
        self.expression("ct", |ct| {
            ct.put(1, &FIRST.to_be_bytes()).put(2, &key.to_be_bytes());
        });
        self.mask(FIRST, &bits.to_ne_bytes()).differs(FIRST, &[0; 4])
    }

    /// The destination is an address of this host.
    pub(super) fn is_for_this_host(&mut self) -> &mut Self {
        const DESTINATION: u32 = 2;
        const TYPE: u32 = 3;
        self.expression("fib", |fib| {
            fib.put(1, &FIRST.to_be_bytes()).put(2, &TYPE.to_be_bytes()).put(3, &DESTINATION.to_be_bytes());
        });
        self.equals(FIRST, &u32::from(libc::RTN_LOCAL).to_ne_bytes())
    }

    /// The registers are an element of a set.
    pub(super) fn within(&mut self, set: &str, register: u32) -> &mut Self {
        self.expression("lookup", |lookup| {
            lookup.put_text(1, set).put(2, &register.to_be_bytes()).put(4, &0_u32.to_be_bytes());
        })
    }

    /// What a map leads to, in registers (0: a verdict, which is followed).
    pub(super) fn map(&mut self, set: &str, register: u32, result: u32) -> &mut Self {
        self.expression("lookup", |lookup| {
            lookup.put_text(1, set).put(2, &register.to_be_bytes()).put(3, &result.to_be_bytes());
        })
    }

    /// Rewrites the destination to address and port in registers.
    pub(super) fn rewrite_destination(&mut self, v4: bool) -> &mut Self {
        let port = FIRST + if v4 { 1 } else { 4 };
        self.nat(1, v4, |nat| {
            nat.put(5, &port.to_be_bytes());
        })
    }

    /// Rewrites the source to the address in registers.
    pub(super) fn rewrite_source(&mut self, v4: bool) -> &mut Self {
        self.nat(0, v4, |_| {})
    }

    fn nat(&mut self, kind: u32, v4: bool, more: impl FnOnce(&mut Batch)) -> &mut Self {
        let family = if v4 { libc::AF_INET } else { libc::AF_INET6 } as u32;
        self.expression("nat", |nat| {
            nat.put(1, &kind.to_be_bytes()).put(2, &family.to_be_bytes()).put(3, &FIRST.to_be_bytes());
            more(nat);
        })
    }

    /// Rewrites the source to the address of the outgoing device.
    pub(super) fn masquerade(&mut self) -> &mut Self {
        self.expression("masq", |_| {})
    }

    pub(super) fn verdict(&mut self, code: i32) -> &mut Self {
        self.expression("immediate", |immediate| {
            immediate.put(1, &0_u32.to_be_bytes());
            put_verdict(immediate, code, None);
        })
    }

    pub(super) fn jump(&mut self, chain: &str) -> &mut Self {
        self.expression("immediate", |immediate| {
            immediate.put(1, &0_u32.to_be_bytes());
            put_verdict(immediate, JUMP, Some(chain));
        })
    }
}
