//! What a sequence costs, counted as it runs: what it reads from memory, and the time of a device.

/// Counters of a sequence, from its start. The difference of two is the cost of what lies between;
/// the sum is that of two sequences.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes of weights: blocks, head, rows of the embedding. Each weight counts once per call that reads it.
    pub weight_bytes: u64,
    /// Bytes of keys and values read by attention.
    pub kv_bytes: u64,
    /// Feed-forward neurons whose gate was looked at one by one (single tokens of models with ReLU^2).
    pub neurons: u64,
    /// Those with a positive gate: only their up rows are read.
    pub active_neurons: u64,
    /// Of these, the ones that are not zero as int8 input of the down projection: only their columns are read.
    pub down_columns: u64,
    /// Rows of the head that were scored from its compact copy.
    pub scored_rows: u64,
    /// Those that were computed again exactly.
    pub rescored_rows: u64,
    /// Nanoseconds that a device with a clock of its own computed, by that clock; 0 on the CPU.
    pub device_ns: u64,
}

impl std::ops::Sub for Traffic {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            weight_bytes: self.weight_bytes - earlier.weight_bytes,
            kv_bytes: self.kv_bytes - earlier.kv_bytes,
            neurons: self.neurons - earlier.neurons,
            active_neurons: self.active_neurons - earlier.active_neurons,
            down_columns: self.down_columns - earlier.down_columns,
            scored_rows: self.scored_rows - earlier.scored_rows,
            rescored_rows: self.rescored_rows - earlier.rescored_rows,
            device_ns: self.device_ns - earlier.device_ns,
        }
    }
}

impl std::ops::Add for Traffic {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            weight_bytes: self.weight_bytes + other.weight_bytes,
            kv_bytes: self.kv_bytes + other.kv_bytes,
            neurons: self.neurons + other.neurons,
            active_neurons: self.active_neurons + other.active_neurons,
            down_columns: self.down_columns + other.down_columns,
            scored_rows: self.scored_rows + other.scored_rows,
            rescored_rows: self.rescored_rows + other.rescored_rows,
            device_ns: self.device_ns + other.device_ns,
        }
    }
}
