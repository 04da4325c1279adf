// A container records names and info-hashes of its origin, but no path, because containers are moved between
// machines. The names are combined with the places where releases lie. Since a container may come from a
// stranger, a recorded name is used only when it is a single path element.

#include "library/source_release.h"

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>

#include "base/file.h"
#include "format/container_format.h"
#include "format/hub/tokenizer_file.h"
#include "library/catalog.h"
#include "library/store.h"

namespace sluice::library {
namespace {

namespace fs = std::filesystem;
using format::Json;

std::string text_of(const Json& provenance, std::string_view key) {
  const Json* value = provenance.find(key);
  return value != nullptr && value->is_string() ? value->as_string(key) : std::string();
}

// A name that the container records becomes part of a path only when it cannot lead elsewhere.
bool is_file_name(const std::string& name) {
  return !name.empty() && name != "." && name != ".." && name.find('/') == std::string::npos;
}

/// Recognises a release by its tokenizer, which is the first section of a container and starts right behind
/// the header, where it is found without the directory. Damage may have changed some bytes of it, so one byte
/// in a hundred may differ. A wrong guess does no harm, since convert::repair verifies before it writes.
bool has_tokenizer_of(const base::File& container, const fs::path& release, format::TokenizerKind kind) {
  // A stranger's folder may hold a file of any size under this name.
  constexpr std::uint64_t kTokenizerBytesMax = 64u << 20;
  constexpr std::size_t kDamagedShareMax = 100;
  const fs::path path = release / format::file_name(kind);
  std::error_code absent;
  if (!fs::is_regular_file(path, absent) || fs::file_size(path, absent) > kTokenizerBytesMax) return false;
  const auto expected = base::read_file(path);
  std::vector<std::byte> found(expected.size());
  found.resize(container.read_at(format::kContainerHeaderBytes, found));
  // Bytes that the container lacks count as wrong.
  std::size_t wrong = expected.size() - found.size();
  for (std::size_t i = 0; i < found.size(); ++i) wrong += found[i] != expected[i];
  return !expected.empty() && wrong <= expected.size() / kDamagedShareMax;
}

// Without a readable directory the container cannot name its release, so all releases at hand are tried.
std::vector<fs::path> list_folders(const fs::path& container, const Context& context) {
  std::vector<fs::path> folders;
  std::error_code unreadable;
  const fs::path beside = fs::absolute(container).parent_path();
  for (const auto& entry : fs::directory_iterator(beside, unreadable))
    if (entry.is_directory(unreadable)) folders.push_back(entry.path());
  std::ranges::sort(folders);
  for (const CatalogEntry& known : list_releases(context))
    if (known.embedded_folder) folders.push_back(*known.embedded_folder);
  return folders;
}

}  // namespace

std::vector<fs::path> list_source_releases(const fs::path& container, const Json& provenance,
                                           const Folders& folders) {
  const std::string release = text_of(provenance, "release");
  std::vector<std::string> names;
  std::vector<fs::path> candidates;
  std::optional<CatalogEntry> known;
  // The catalog adds the name that the torrent gives to the folder, which often is not the name of the
  // release.
  if (is_release_name(release)) known = find_release(release, folders);
  if (is_file_name(release)) names.push_back(release);
  if (known && is_file_name(known->manifest.torrent_name)) names.push_back(known->manifest.torrent_name);
  for (const auto& name : names) candidates.push_back(fs::absolute(container).parent_path() / name);
  // In the store the release lies below the info-hash by which it was fetched, which may be either.
  for (const char* key : {"infohash_v1", "infohash_v2"}) {
    const std::string infohash = text_of(provenance, key);
    if (folders.store.empty() || !is_file_name(infohash)) continue;
    const fs::path stored = Store(folders.store).release_folder(infohash);
    for (const auto& name : names) candidates.push_back(stored / name);
  }
  if (known && known->embedded_folder) candidates.push_back(*known->embedded_folder);
  return candidates;
}

std::optional<fs::path> find_source_release(const fs::path& container, const Json& provenance,
                                            const Folders& folders) {
  const auto candidates = list_source_releases(container, provenance, folders);
  std::error_code absent;
  const auto folder = std::ranges::find_if(
      candidates, [&](const fs::path& candidate) { return fs::is_directory(candidate, absent); });
  return folder == candidates.end() ? std::nullopt : std::optional(*folder);
}

std::optional<fs::path> guess_source_release(const fs::path& container, const Context& context) {
  const base::File file = base::File::open_read(container);
  for (const fs::path& folder : list_folders(container, context))
    for (const format::TokenizerKind kind : format::kTokenizerKinds)
      if (has_tokenizer_of(file, folder, kind)) return folder;
  return std::nullopt;
}

}  // namespace sluice::library
