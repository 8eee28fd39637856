//! Inputs changed at random, without a look at what they do: bits, bytes, numbers of files and their sizes, pieces cut out,
//! doubled and taken from other inputs.

/// An endless row of changed inputs, the same for the same name.
pub struct Mutations<'a> {
    inputs: &'a [Vec<u8>],
    /// Bytes in front of each that are choices and no file.
    choices: usize,
    state: u64,
}

/// Numbers that readers stumble over.
const NUMBERS: [u64; 10] = [
    0,
    1,
    u8::MAX as u64,
    i16::MAX as u64,
    u16::MAX as u64,
    i32::MAX as u64,
    u32::MAX as u64,
    i64::MAX as u64,
    u64::MAX,
    1 << 40,
];

/// Inputs become no longer than this.
const LONGEST: usize = 1 << 16;

impl<'a> Mutations<'a> {
    /// Changes of `inputs`, of which there is at least one; they begin with so many choices.
    pub fn new(inputs: &'a [Vec<u8>], choices: usize, name: &str) -> Self {
        let mix = |state: u64, byte: u8| (state ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        let state = name.bytes().fold(0xcbf2_9ce4_8422_2325, mix);
        Self {
            inputs,
            choices,
            state,
        }
    }

    /// A number below `most`; 0 if that is 0.
    fn below(&mut self, most: usize) -> usize {
        // SplitMix64.
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        (z % most.max(1) as u64) as usize
    }

    fn piece(&mut self, bytes: &[u8]) -> Vec<u8> {
        let from = self.below(bytes.len());
        let len = self.below((bytes.len() - from).min(64) + 1);
        bytes[from..from + len].to_vec()
    }

    fn change(&mut self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            bytes.push(0);
        }
        let at = self.below(bytes.len());
        match self.below(8) {
            0 => bytes[at] ^= 1 << self.below(8),
            1 => bytes[at] = self.below(256) as u8,
            2 => bytes[at] = bytes[at].wrapping_add([1, 255, 16, 240][self.below(4)]),
            3 => {
                let number = NUMBERS[self.below(NUMBERS.len())].to_le_bytes();
                let width = [2, 4, 8][self.below(3)].min(bytes.len() - at);
                bytes[at..at + width].copy_from_slice(&number[..width]);
            }
            4 => {
                let len = self.below((bytes.len() - at).min(64) + 1);
                bytes.drain(at..at + len);
            }
            5 => {
                let own = bytes.clone();
                let piece = self.piece(&own);
                bytes.splice(at..at, piece);
            }
            6 => {
                let inputs = self.inputs;
                let other = &inputs[self.below(inputs.len())];
                let piece = self.piece(other);
                let end = (at + piece.len()).min(bytes.len());
                bytes.splice(at..end, piece);
            }
            // Rarely all that follows.
            _ if self.below(4) == 0 => bytes.truncate(at),
            // The beginning, where headers are.
            _ => {
                let at = self.below(bytes.len().min(32));
                bytes[at] = self.below(256) as u8;
            }
        }
    }

    /// Chooses otherwise, here and there.
    fn choose(&mut self, bytes: &mut [u8]) {
        let rarely = 4 + self.below(40);
        let end = self.choices.min(bytes.len());
        for byte in &mut bytes[..end] {
            if self.below(rarely) == 0 {
                *byte = self.below(256) as u8;
            }
        }
    }
}

impl Iterator for Mutations<'_> {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let mut bytes = self.inputs[self.below(self.inputs.len())].clone();
        let choices = self.choices.min(bytes.len());
        let mut file = bytes.split_off(choices);
        // A third of the files stays as it is, since what is refused at once is asked nothing.
        if choices == 0 || self.below(3) > 0 {
            for _ in 0..=self.below(6) {
                self.change(&mut file);
            }
        }
        if self.below(2) == 0 {
            self.choose(&mut bytes);
        }
        bytes.append(&mut file);
        bytes.truncate(LONGEST);
        Some(bytes)
    }
}
