//! What the descriptors in the server's epoll set are for.

use crate::poll;

/// The server's epoll set.
pub(super) type Poll = poll::Poll<Token>;

/// What a descriptor is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// Datagrams of the container.
    Udp,
    /// New connections of the container.
    Listener,
    /// One of those.
    Client { slot: u16, generation: u32 },
    /// A server that was asked.
    Attempt { slot: u16, generation: u32, number: u8 },
}

impl poll::Token for Token {
    fn encode(self) -> u64 {
        let (kind, number, slot, generation) = match self {
            Token::Udp => (0, 0, 0, 0),
            Token::Listener => (1, 0, 0, 0),
            Token::Client { slot, generation } => (2, 0, slot, generation),
            Token::Attempt { slot, generation, number } => (3, number, slot, generation),
        };
        u64::from(generation) | u64::from(slot) << 32 | u64::from(number) << 48 | kind << 56
    }

    fn decode(data: u64) -> Self {
        let (generation, slot, number) = (data as u32, (data >> 32) as u16, (data >> 48) as u8);
        match data >> 56 {
            0 => Token::Udp,
            1 => Token::Listener,
            2 => Token::Client { slot, generation },
            _ => Token::Attempt { slot, generation, number },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::poll::Token as _;

    #[test]
    fn tokens_survive_the_kernel() {
        let attempt = Token::Attempt { slot: 65535, generation: u32::MAX, number: 255 };
        for token in [Token::Udp, Token::Listener, Token::Client { slot: 7, generation: 9 }, attempt] {
            assert_eq!(Token::decode(token.encode()), token);
        }
    }
}
