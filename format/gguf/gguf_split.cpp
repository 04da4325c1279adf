#include "format/gguf/gguf_split.h"

#include <optional>
#include <string>

#include "base/error.h"

namespace sluice::format {
namespace {

[[noreturn]] void refuse(const CheckpointIndex& shard, const std::string& cause) {
  base::throw_malformed(shard.files.front().string(), cause);
}

/// Writers choose any integer type for a key.
std::optional<std::uint64_t> find_uint(const CheckpointIndex& shard, std::string_view key) {
  const auto found = shard.gguf_pairs.find(key);
  if (found == shard.gguf_pairs.end()) return std::nullopt;
  if (const auto* number = std::get_if<std::uint64_t>(&found->second)) return *number;
  if (const auto* number = std::get_if<std::int64_t>(&found->second); number != nullptr && *number >= 0)
    return static_cast<std::uint64_t>(*number);
  refuse(shard, "key '" + std::string(key) + "': expected a whole number that is not negative");
}

/// A shard whose name does not say so would be taken for a model that lacks tensors.
void check_alone(const CheckpointIndex& file) {
  const std::uint64_t count = find_uint(file, "split.count").value_or(1);
  if (count <= 1) return;
  const std::uint64_t number = find_uint(file, "split.no").value_or(0);
  const std::string total = std::to_string(count);
  refuse(file, "is shard " + std::to_string(number + 1) + " of " + total +
                   " (keys split.no, split.count), and its name does not lead to the others: the files of a "
                   "split model lie in one folder as NAME-00001-of-" +
                   std::string(total.size() < 5 ? 5 - total.size() : 0, '0') + total + ".gguf and so on");
}

}  // namespace

void check_gguf_split(const std::vector<CheckpointIndex>& shards) {
  if (shards.size() == 1) return check_alone(shards.front());
  std::uint64_t tensor_count = 0;
  for (const CheckpointIndex& shard : shards) tensor_count += shard.tensors.size();
  for (std::size_t i = 0; i < shards.size(); ++i) {
    const auto require = [&](std::string_view key, std::uint64_t expected, const std::string& source) {
      const auto found = find_uint(shards[i], key);
      if (!found || *found == expected) return;
      refuse(shards[i], "key '" + std::string(key) + "': is " + std::to_string(*found) + ", expected " +
                            std::to_string(expected) + " " + source);
    };
    require("split.no", i, "by the number in the file's name");
    require("split.count", shards.size(), "by the number of shards in the file's name");
    require("split.tensors.count", tensor_count, "by the tensors of all shards");
  }
}

}  // namespace sluice::format
