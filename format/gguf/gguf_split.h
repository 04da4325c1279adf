#pragma once
// GGUF models in shards, as llama.cpp's gguf-split writes them: NAME-00001-of-0000N.gguf. The first shard has
// the model's keys; each has split.no (from 0), split.count and split.tensors.count (of all shards).

#include <vector>

#include "format/checkpoint_index.h"

namespace sluice::format {

/// Checks the split keys of the shards of one checkpoint, or of a file that stands alone. Keys that are
/// missing are not asked for. Error{malformed} names the file, the key, expected and found.
void check_gguf_split(const std::vector<CheckpointIndex>& shards);

}  // namespace sluice::format
