#include "library/source_release.h"

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>

#include "base/file.h"
#include "cli/environment.h"
#include "format/container_format.h"
#include "library/catalog.h"
#include "library/store.h"

namespace sluice::cli {
namespace {

namespace fs = std::filesystem;
using format::Json;

std::string text_of(const Json& provenance, std::string_view key) {
  const Json* value = provenance.find(key);
  return value != nullptr && value->is_string() ? value->as_string(key) : std::string();
}

// A name from the container becomes part of a path only when it is one.
bool is_file_name(const std::string& name) {
  return !name.empty() && name != "." && name != ".." && name.find('/') == std::string::npos;
}

// The tokenizer is the first section: it starts right behind the header. A few of its bytes may be damaged.
bool has_tokenizer_of(const base::File& container, const fs::path& release) {
  constexpr std::uint64_t kTokenizerBytesMax = 64u << 20;
  constexpr std::size_t kDamagedShareMax = 100;
  const fs::path path = release / "tokenizer.model";
  std::error_code not_there;
  if (!fs::is_regular_file(path, not_there) || fs::file_size(path, not_there) > kTokenizerBytesMax)
    return false;
  const auto expected = base::read_file(path);
  std::vector<std::byte> found(expected.size());
  found.resize(container.read_at(format::kContainerHeaderBytes, found));
  std::size_t wrong = expected.size() - found.size();
  for (std::size_t i = 0; i < found.size(); ++i) wrong += found[i] != expected[i];
  return !expected.empty() && wrong <= expected.size() / kDamagedShareMax;
}

std::vector<fs::path> releases_at_hand(const fs::path& container, Console& console) {
  std::vector<fs::path> folders;
  std::error_code unreadable;
  const fs::path beside = fs::absolute(container).parent_path();
  for (const auto& entry : fs::directory_iterator(beside, unreadable))
    if (entry.is_directory(unreadable)) folders.push_back(entry.path());
  std::ranges::sort(folders);
  for (const CatalogEntry& known : list_catalog(console))
    if (known.embedded_folder) folders.push_back(*known.embedded_folder);
  return folders;
}

}  // namespace

std::vector<fs::path> source_release_candidates(const fs::path& container, const Json& provenance) {
  const std::string release = text_of(provenance, "release");
  std::vector<std::string> names;
  std::vector<fs::path> folders;
  std::optional<CatalogEntry> known;
  if (is_release_name(release)) known = find_release(release);
  if (is_file_name(release)) names.push_back(release);
  if (known && is_file_name(known->manifest.torrent_name)) names.push_back(known->manifest.torrent_name);
  for (const auto& name : names) folders.push_back(fs::absolute(container).parent_path() / name);
  for (const char* key : {"infohash_v1", "infohash_v2"}) {
    const std::string infohash = text_of(provenance, key);
    if (!is_file_name(infohash)) continue;
    const fs::path stored = Store(store_folder()).release_folder(infohash);
    for (const auto& name : names) folders.push_back(stored / name);
  }
  if (known && known->embedded_folder) folders.push_back(*known->embedded_folder);
  return folders;
}

std::optional<fs::path> find_source_release(const fs::path& container, const Json& provenance) {
  const auto folders = source_release_candidates(container, provenance);
  std::error_code not_there;
  const auto folder = std::ranges::find_if(
      folders, [&](const fs::path& candidate) { return fs::is_directory(candidate, not_there); });
  return folder == folders.end() ? std::nullopt : std::optional(*folder);
}

std::optional<fs::path> guess_source_release(const fs::path& container, Console& console) {
  const base::File file = base::File::open_read(container);
  for (const fs::path& folder : releases_at_hand(container, console))
    if (has_tokenizer_of(file, folder)) return folder;
  return std::nullopt;
}

}  // namespace sluice::cli
