// Groups the files of a folder into checkpoints, by their kind (checkpoint_kind.h) and by the numbers in
// their names. It looks at names and first bytes only; what a file really holds is for those who open it.
// Runs on the caller's thread and keeps no state.

#include "format/checkpoint_files.h"

#include <algorithm>
#include <map>
#include <regex>

#include "base/ascii.h"
#include "base/error.h"
#include "base/text.h"
#include "format/grok/grok_release.h"

namespace sluice::format {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kShardsMax = 10'000;
constexpr std::string_view kWeightMapEnd = ".index.json";

std::string in_quotes(const fs::path& path) {
  return "'" + base::to_printable(path.filename().string()) + "'";
}

std::uint64_t to_number(const std::string& digits) {
  return base::parse_uint(digits).value_or(kShardsMax + 1);
}

/// The place of a file among its shards, as its name gives it.
struct NamePattern {
  std::string group;         ///< the same for all shards of a checkpoint
  std::uint64_t number = 0;  ///< from 0
  std::uint64_t count = 0;   ///< number of shards; 0: the names do not say
};

/// Knows model-00001-of-00019.safetensors, consolidated.00.pth and tensor00000_000. Any other file is a
/// checkpoint of its own.
NamePattern read_name(const std::string& name) {
  static const std::regex of_count(R"((.+)-(\d{1,6})-of-(\d{1,6})(\.[a-z]+))");
  static const std::regex numbered(R"((.+)\.(\d\d)(\.(pth|pt|safetensors)))");
  std::smatch match;
  if (std::regex_match(name, match, of_count)) {
    // These numbers begin with 1. A 0 wraps around to 2^64 - 1, which find_gap() does not accept.
    const std::uint64_t count = to_number(match[3]);
    return {match.str(1) + "-of-" + match.str(3) + match.str(4), to_number(match[2]) - 1, count};
  }
  if (const auto number = grok_tensor_number(name)) return {"tensorNNNNN_000", *number, 0};
  if (std::regex_match(name, match, numbered))
    return {match.str(1) + ".NN" + match.str(3), to_number(match[2]), 0};
  return {name, 0, 1};
}

/// The name of a file that was cut into parts for an upload: NAME-split0, NAME-split1, ...
std::optional<std::pair<std::string, std::uint64_t>> read_part_name(const std::string& name) {
  static const std::regex part(R"((.+)-split(\d{1,4}))");
  std::smatch match;
  if (!std::regex_match(name, match, part)) return std::nullopt;
  return std::pair(match.str(1), to_number(match[2]));
}

/// Regular files, by name. Symbolic links are followed, because download caches consist of them.
std::vector<fs::path> list_files(const fs::path& folder) {
  std::vector<fs::path> files;
  std::error_code error;
  for (auto entry = fs::directory_iterator(folder, error); !error && entry != fs::directory_iterator();
       entry.increment(error)) {
    std::error_code unreadable;  // a broken link, for example, is not a file
    if (entry->is_regular_file(unreadable)) files.push_back(entry->path());
  }
  if (error) base::throw_errno(folder, "read folder", error.value());
  std::ranges::sort(files);
  return files;
}

struct Member {
  std::uint64_t number = 0;
  std::uint64_t count = 0;
  fs::path path;
};

/// Says which shard is missing or occurs twice; empty when the sorted members are complete. Without a count
/// in the names, the highest number decides how many there must be.
std::string find_gap(const std::vector<Member>& members) {
  const std::uint64_t count = members.front().count;
  if (count > kShardsMax) return "names more shards than there can be";
  const std::uint64_t expected = count == 0 ? members.back().number + 1 : count;
  for (std::uint64_t i = 0; i < expected; ++i) {
    if (i < members.size() && members[i].number == i) continue;
    return "shard " + std::to_string(count == 0 ? i : i + 1) + " of the checkpoint of " +
           in_quotes(members.front().path) + " is missing" +
           (count == 0 ? "" : ": there must be " + std::to_string(count));
  }
  if (members.size() > expected) return "two files have the same number: " + in_quotes(members.back().path);
  return {};
}

CheckpointFiles to_checkpoint(CheckpointKind kind, std::vector<Member> members) {
  std::ranges::sort(members, {}, &Member::number);
  CheckpointFiles checkpoint;
  checkpoint.kind = kind;
  checkpoint.problem = find_gap(members);
  for (Member& member : members) checkpoint.files.push_back(std::move(member.path));
  return checkpoint;
}

/// A file that was cut into parts cannot be opened, so its problem says how to join it.
CheckpointFiles cut_file(const fs::path& whole, std::uint64_t parts) {
  const std::string name = base::to_printable(whole.filename().string());
  return {.kind = CheckpointKind::pth,
          .files = {whole},
          .weight_map = {},
          .problem = "is cut into " + std::to_string(parts) +
                     " parts: join them in the order of their numbers (cat '" + name + "-split0' '" + name +
                     "-split1' ... > '" + name + "'; a pattern would put -split10 before -split2)"};
}

/// Attaches an index file to the checkpoint that has its name.
void attach_weight_map(const fs::path& map, std::vector<CheckpointFiles>& checkpoints) {
  // model.safetensors.index.json belongs to model-*.safetensors and to model.safetensors.
  const std::string stem = map.filename().string().substr(0, map.filename().string().find('.'));
  for (CheckpointFiles& checkpoint : checkpoints) {
    const std::string name = checkpoint.files.front().filename().string();
    if (name.starts_with(stem + "-") || name.starts_with(stem + ".")) checkpoint.weight_map = map;
  }
}

}  // namespace

std::vector<CheckpointFiles> find_checkpoints(const fs::path& folder) {
  std::map<std::pair<CheckpointKind, std::string>, std::vector<Member>> groups;  // by kind and name pattern
  std::map<fs::path, std::uint64_t> cut_files;
  std::vector<fs::path> weight_maps;
  for (const fs::path& path : list_files(folder)) {
    const std::string name = path.filename().string();
    if (const auto part = read_part_name(name)) {
      ++cut_files[folder / part->first];
      continue;
    }
    if (name.ends_with(kWeightMapEnd)) {
      weight_maps.push_back(path);
      continue;
    }
    const auto kind = recognise_checkpoint(path);
    if (!kind) continue;
    const NamePattern pattern = read_name(name);
    groups[{*kind, pattern.group}].push_back({pattern.number, pattern.count, path});
  }
  std::vector<CheckpointFiles> checkpoints;
  for (auto& [key, members] : groups) checkpoints.push_back(to_checkpoint(key.first, std::move(members)));
  for (const auto& [whole, parts] : cut_files)
    // When the joined file is there, the parts are leftovers.
    if (!fs::exists(whole)) checkpoints.push_back(cut_file(whole, parts));
  for (const fs::path& map : weight_maps) attach_weight_map(map, checkpoints);
  return checkpoints;
}

CheckpointFiles checkpoint_of(const fs::path& file) {
  const fs::path folder = file.has_parent_path() ? file.parent_path() : ".";
  if (const auto part = read_part_name(file.filename().string())) {
    std::uint64_t parts = 0;
    for (const fs::path& path : list_files(folder)) {
      const auto other = read_part_name(path.filename().string());
      parts += other && other->first == part->first ? 1 : 0;
    }
    return cut_file(folder / part->first, parts);
  }
  if (file.filename().string().ends_with(kWeightMapEnd)) {
    for (CheckpointFiles& checkpoint : find_checkpoints(folder))
      if (checkpoint.weight_map && checkpoint.weight_map->filename() == file.filename())
        return std::move(checkpoint);
  }
  // A numbered file stands for all shards of its checkpoint. find_checkpoints() groups by content, too, so a
  // stray file with a number but another kind is not among them.
  const NamePattern pattern = read_name(file.filename().string());
  if (pattern.group != file.filename().string()) {
    for (CheckpointFiles& checkpoint : find_checkpoints(folder)) {
      for (const fs::path& path : checkpoint.files)
        if (path.filename() == file.filename()) return std::move(checkpoint);
    }
  }
  return {.kind = recognise_checkpoint(file).value_or(CheckpointKind::pth),
          .files = {file},
          .weight_map = {},
          .problem = {}};
}

}  // namespace sluice::format
