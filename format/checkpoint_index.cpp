// Opens checkpoints of one or more files, and chooses one of several in a folder (docs/checkpoints.md, "Which
// files"). A folder may hold the same model in two layouts, as repositories on the hub do, so a choice is
// better than a refusal, but only where an order of preference decides it. Everything runs on the caller's
// thread.

#include "format/checkpoint_index.h"

#include <algorithm>
#include <optional>
#include <set>

#include "base/error.h"
#include "base/file.h"
#include "base/text.h"
#include "format/checkpoint_files.h"
#include "format/gguf/gguf_split.h"
#include "format/grok/grok_release.h"
#include "format/json.h"

namespace sluice::format {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kWeightMapBytesMax = 64u << 20;

std::string name_of(const fs::path& path) { return base::to_printable(path.filename().string()); }

/// Merges shards, each of which has tensors of its own. Shards with slices of the same tensors are refused.
CheckpointIndex merge(std::vector<CheckpointIndex> parts) {
  CheckpointIndex merged;
  merged.kind = parts.front().kind;
  merged.gguf_pairs = std::move(parts.front().gguf_pairs);
  for (CheckpointIndex& part : parts) {
    for (CheckpointTensor& tensor : part.tensors) {
      tensor.file_index += merged.files.size();
      merged.tensors.push_back(std::move(tensor));
    }
    merged.files.insert(merged.files.end(), part.files.begin(), part.files.end());
  }
  // Stable, so that of two equal names the one in the earlier file comes first in the message.
  std::ranges::stable_sort(merged.tensors, {}, &CheckpointTensor::name);
  const auto twice = std::ranges::adjacent_find(merged.tensors, {}, &CheckpointTensor::name);
  if (twice != merged.tensors.end()) {
    base::throw_malformed(
        merged.files[twice->file_index].string(),
        "tensor '" + twice->name + "' is also in '" + name_of(merged.files[std::next(twice)->file_index]) +
            "': shards that hold slices of the same tensors (tensor-parallel) are not supported");
  }
  return merged;
}

/// Checks that the index file names every tensor, in the file in which it is. Sluice does not need the map to
/// find tensors; a difference shows that a shard is of another upload.
void check_weight_map(const fs::path& path, const CheckpointIndex& index) {
  const std::string subject = path.string();
  const Json json = parse_json(base::read_text_file(path, kWeightMapBytesMax), subject);
  const auto& map = json.at("weight_map", subject).as_object(subject + ": key 'weight_map'");
  for (const auto& [name, file] : map) {
    const std::string& expected = file.as_string(subject + ": tensor '" + base::to_printable(name) + "'");
    const CheckpointTensor* tensor = index.find(name);
    const std::string where = "tensor '" + base::to_printable(name) + "' is said to be in '" +
                              base::to_printable(expected) + "', but is ";
    if (tensor == nullptr) base::throw_malformed(subject, where + "in none of the files");
    if (index.files[tensor->file_index].filename().string() != expected)
      base::throw_malformed(subject, where + "in '" + name_of(index.files[tensor->file_index]) + "'");
  }
  // All names of the map exist, so a difference in number means that the map leaves tensors out.
  if (map.size() == index.tensors.size()) return;
  std::set<std::string_view> named;
  for (const auto& member : map) named.insert(member.first);
  for (const CheckpointTensor& tensor : index.tensors) {
    if (named.contains(tensor.name)) continue;
    base::throw_malformed(subject, "does not name tensor '" + tensor.name + "', which is in '" +
                                       name_of(index.files[tensor.file_index]) + "'");
  }
}

CheckpointIndex open_files(const CheckpointFiles& checkpoint) {
  if (!checkpoint.problem.empty())
    base::throw_malformed(checkpoint.files.front().string(), checkpoint.problem);
  std::vector<CheckpointIndex> parts;
  for (const fs::path& file : checkpoint.files) parts.push_back(open_checkpoint_file(checkpoint.kind, file));
  if (checkpoint.kind == CheckpointKind::gguf) check_gguf_split(parts);
  CheckpointIndex index = merge(std::move(parts));
  if (checkpoint.weight_map) check_weight_map(*checkpoint.weight_map, index);
  return index;
}

/// The higher number is preferred: native names need no mapping, safetensors needs no pickle.
int preference(const CheckpointIndex& index) {
  return (index.find("tok_embeddings.weight") != nullptr ? 2 : 0) +
         (index.kind == CheckpointKind::safetensors ? 1 : 0) - (index.kind == CheckpointKind::gguf ? 1 : 0);
}

[[noreturn]] void refuse_choice(const fs::path& folder, const CheckpointIndex& one,
                                const CheckpointIndex& other) {
  base::throw_malformed(folder.string(), "holds more than one checkpoint ('" + name_of(one.files.front()) +
                                             "', '" + name_of(other.files.front()) +
                                             "'), expected one: name the file that is meant");
}

/// Opens every checkpoint of the folder and returns the preferred one. A checkpoint that is refused does not
/// matter if another one can be opened; if none can, the first refusal is the answer.
CheckpointIndex open_folder(const fs::path& folder) {
  const auto checkpoints = find_checkpoints(find_grok_folder(folder).value_or(folder));
  if (checkpoints.empty())
    base::throw_malformed(folder.string(), "holds no checkpoint (a torch zip or safetensors file)");
  std::optional<CheckpointIndex> best;
  std::optional<CheckpointIndex> equal;
  std::optional<base::Error> problem;
  for (const CheckpointFiles& checkpoint : checkpoints) {
    try {
      CheckpointIndex index = open_files(checkpoint);
      if (!best || preference(index) > preference(*best)) {
        best = std::move(index);
        equal.reset();
      } else if (preference(index) == preference(*best)) {
        equal = std::move(index);
      }
    } catch (const base::Error& error) {
      if (error.kind() != base::ErrorKind::malformed) throw;
      if (!problem) problem = error;
    }
  }
  if (!best) throw *problem;
  if (equal) refuse_choice(folder, *best, *equal);
  return *std::move(best);
}

}  // namespace

bool CheckpointTensor::row_major() const {
  if (element_count(shape) == 0) return true;
  std::uint64_t expected = 1;
  for (std::size_t axis = shape.size(); axis-- > 0;) {
    // The stride of an axis of one element has no effect.
    if (shape[axis] != 1 && strides[axis] != expected) return false;
    expected *= shape[axis];
  }
  return true;
}

const CheckpointTensor* CheckpointIndex::find(std::string_view name) const {
  const auto found = std::ranges::lower_bound(
      tensors, name, {}, [](const CheckpointTensor& tensor) { return std::string_view(tensor.name); });
  return found != tensors.end() && found->name == name ? &*found : nullptr;
}

CheckpointIndex open_checkpoint(const fs::path& path) {
  std::error_code error;  // ignored: opening the path gives a better message
  return fs::is_directory(path, error) ? open_folder(path) : open_files(checkpoint_of(path));
}

}  // namespace sluice::format
