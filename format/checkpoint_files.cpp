#include "format/checkpoint_files.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <map>
#include <regex>

#include "base/bytes.h"
#include "base/error.h"
#include "base/text.h"
#include "format/json.h"
#include "format/safetensors.h"

namespace sluice::format {
namespace {

namespace fs = std::filesystem;
using std::string_view_literals::operator""sv;

constexpr std::size_t kHeadBytes = 512;
constexpr std::uint64_t kShardsMax = 10'000;
constexpr std::string_view kWeightMapEnd = ".index.json";

struct Lookalike {
  std::size_t offset_bytes;
  std::string_view magic;
  std::string_view what;
};

constexpr std::string_view kWebPage = "is a web page, not a checkpoint: the download saved an error page";

constexpr std::array<Lookalike, 14> kLookalikes{{
    // torch's magic number 0x1950a86a20f9469cfc6c, pickled: torch/serialization.py, _legacy_save
    {2, "\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."sv,
     "is in torch's format from before version 1.6, which is not supported: load and save it with a newer "
     "torch"},
    {0, "\x80"sv, "is a bare pickle, not a torch zip file"},
    {257, "ustar"sv,
     "is a tar archive: unpack it first (torch's own tar format, before 0.2, is not supported)"},
    {0, "7z\xbc\xaf\x27\x1c"sv, "is a 7z archive, not a checkpoint"},
    {0, "\x1f\x8b"sv, "is a gzip file, not a checkpoint: unpack it first"},
    {0, "PK\x05\x06"sv, "is an empty zip archive"},
    {0, "<!"sv, kWebPage},
    {0, "<?"sv, kWebPage},
    {0, "<h"sv, kWebPage},
    {0, "<H"sv, kWebPage},
    {0, "version https://git-lfs"sv, "is a Git LFS pointer, not the checkpoint it stands for"},
    {0, "GGUF"sv, "is a GGUF file, not a torch zip file"},
    {0, "\x89HDF"sv, "is an HDF5 file, not a checkpoint of a kind that is supported"},
    {0, "\x93NUMPY"sv, "is a NumPy file, not a checkpoint of a kind that is supported"},
}};

std::string in_quotes(const fs::path& path) {
  return "'" + base::to_printable(path.filename().string()) + "'";
}

std::uint64_t to_number(const std::string& digits) {
  std::uint64_t number = 0;
  const auto result = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  return result.ec == std::errc{} ? number : kShardsMax + 1;
}

/// What a file's name says about the others that it belongs to.
struct NamePattern {
  std::string group;         ///< the same for all of them
  std::uint64_t number = 0;  ///< from 0
  std::uint64_t count = 0;   ///< 0: the names do not say how many there are
};

/// model-00001-of-00019.safetensors; consolidated.00.pth. Other files stand alone.
NamePattern read_name(const std::string& name) {
  static const std::regex of_count(R"((.+)-(\d{1,6})-of-(\d{1,6})(\.[a-z]+))");
  static const std::regex numbered(R"((.+)\.(\d\d)(\.(pth|pt|safetensors)))");
  std::smatch match;
  if (std::regex_match(name, match, of_count)) {
    const std::uint64_t count = to_number(match[3]);
    return {match.str(1) + "-of-" + match.str(3) + match.str(4), to_number(match[2]) - 1, count};
  }
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

/// Empty when the file is no checkpoint, neither by its content nor by its name.
std::string kind_of(const fs::path& path) {
  const std::string head = read_head(base::File::open_read(path));
  if (is_zip(head)) return "pth";
  if (is_gguf(head) || path.extension() == ".gguf") return "gguf";
  if (looks_like_safetensors(head) || path.extension() == ".safetensors") return "safetensors";
  return path.extension() == ".pth" || path.extension() == ".pt" ? "pth" : "";
}

/// Regular files, by name. Links are followed: download caches are made of them.
std::vector<fs::path> list_files(const fs::path& folder) {
  std::vector<fs::path> files;
  std::error_code error;
  for (auto entry = fs::directory_iterator(folder, error); !error && entry != fs::directory_iterator();
       entry.increment(error)) {
    std::error_code unreadable;  // a broken link, say: not a file then
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

std::string find_gap(const std::vector<Member>& members) {
  const std::uint64_t count = members.front().count;
  if (count > kShardsMax) return "names more shards than there can be";
  const std::uint64_t expected = count == 0 ? members.back().number + 1 : count;
  for (std::uint64_t i = 0; i < expected; ++i) {
    if (i < members.size() && members[i].number == i) continue;
    return "shard " + std::to_string(count == 0 ? i : i + 1) + " of the checkpoint that " +
           in_quotes(members.front().path) + " is of is missing" +
           (count == 0 ? "" : ": there must be " + std::to_string(count));
  }
  if (members.size() > expected) return "two files have the same number: " + in_quotes(members.back().path);
  return {};
}

CheckpointFiles to_checkpoint(std::string kind, std::vector<Member> members) {
  std::ranges::sort(members, {}, &Member::number);
  CheckpointFiles checkpoint;
  checkpoint.kind = std::move(kind);
  checkpoint.problem = find_gap(members);
  for (Member& member : members) checkpoint.files.push_back(std::move(member.path));
  return checkpoint;
}

CheckpointFiles cut_file(const fs::path& whole, std::uint64_t parts) {
  const std::string name = base::to_printable(whole.filename().string());
  return {.kind = "pth",
          .files = {whole},
          .weight_map = {},
          .problem = "is cut into " + std::to_string(parts) +
                     " parts: join them in the order of their numbers (cat '" + name + "-split0' '" + name +
                     "-split1' ... > '" + name + "'; a pattern would put -split10 before -split2)"};
}

/// Gives each index file to the checkpoint whose files it names.
void attach_weight_map(const fs::path& map, std::vector<CheckpointFiles>& checkpoints) {
  // model.safetensors.index.json belongs to model-*.safetensors and to model.safetensors.
  const std::string stem = map.filename().string().substr(0, map.filename().string().find('.'));
  for (CheckpointFiles& checkpoint : checkpoints) {
    const std::string name = checkpoint.files.front().filename().string();
    if (name.starts_with(stem + "-") || name.starts_with(stem + ".")) checkpoint.weight_map = map;
  }
}

}  // namespace

std::string read_head(const base::File& file) {
  std::string head(kHeadBytes, '\0');
  head.resize(file.read_at(0, {reinterpret_cast<std::byte*>(head.data()), head.size()}));
  return head;
}

bool is_zip(std::string_view head) { return head.starts_with("PK\x03\x04"sv); }

bool is_gguf(std::string_view head) { return head.starts_with("GGUF"sv); }

bool looks_like_safetensors(std::string_view head) {
  if (head.size() < 10) return false;
  const auto length_bytes = base::load_le<std::uint64_t>(base::as_bytes(head));
  if (length_bytes < 2 || length_bytes > kSafetensorsHeaderBytesMax) return false;
  const std::size_t first = head.find_first_not_of(" \t\r\n", 8);
  return first == std::string_view::npos || head[first] == '{';
}

std::string_view describe_lookalike(std::string_view head) {
  for (const auto& [offset_bytes, magic, what] : kLookalikes)
    if (head.size() > offset_bytes && head.substr(offset_bytes).starts_with(magic)) return what;
  return {};
}

bool is_checkpoint(const fs::path& file) {
  const std::string head = read_head(base::File::open_read(file));
  return is_zip(head) || is_gguf(head) || looks_like_safetensors(head);
}

std::vector<CheckpointFiles> find_checkpoints(const fs::path& folder) {
  std::map<std::pair<std::string, std::string>, std::vector<Member>> groups;  // by kind and name pattern
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
    const std::string kind = kind_of(path);
    if (kind.empty()) continue;
    const NamePattern pattern = read_name(name);
    groups[{kind, pattern.group}].push_back({pattern.number, pattern.count, path});
  }
  std::vector<CheckpointFiles> checkpoints;
  for (auto& [key, members] : groups) checkpoints.push_back(to_checkpoint(key.first, std::move(members)));
  for (const auto& [whole, parts] : cut_files)
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
  const NamePattern pattern = read_name(file.filename().string());
  if (pattern.group != file.filename().string()) {
    for (CheckpointFiles& checkpoint : find_checkpoints(folder)) {
      for (const fs::path& path : checkpoint.files)
        if (path.filename() == file.filename()) return std::move(checkpoint);
    }
  }
  const std::string kind = kind_of(file);
  return {.kind = kind.empty() ? "pth" : kind, .files = {file}, .weight_map = {}, .problem = {}};
}

}  // namespace sluice::format
