#pragma once
// Lists the files of a release folder. Symbolic links are listed and never followed, because a link could
// make a file outside the folder count as part of the release. The cache of huggingface_hub is the exception:
// there a link to a blob of the same model is the file (format/hub/cache_folder.h).

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::verify {

enum class EntryKind : std::uint8_t { file, folder, symlink, other, unreadable };

struct FolderEntry {
  EntryKind kind = EntryKind::file;
  std::uint64_t bytes = 0;  ///< size, of a file
};

/// The reason why an entry cannot be read as a file; empty for a file.
[[nodiscard]] std::string describe(EntryKind kind);

class FolderScan {
 public:
  /// Lists everything below `folder` except Sluice's own files. Error{io} when it is not a readable folder.
  [[nodiscard]] static FolderScan walk(const std::filesystem::path& folder);

  /// Looks only for `paths`: for a single-file release, whose folder holds other files of the user.
  [[nodiscard]] static FolderScan look_up(const std::filesystem::path& folder,
                                          const std::vector<std::string>& paths);

  /// The entry at `path`, or the symbolic link or unreadable folder on the way to it; nullptr when there is
  /// neither.
  [[nodiscard]] const FolderEntry* find(std::string_view path) const;

  /// Entries by their path below the folder, with '/'.
  [[nodiscard]] const std::map<std::string, FolderEntry, std::less<>>& entries() const { return entries_; }

 private:
  explicit FolderScan(const std::filesystem::path& folder);
  // Throws std::filesystem::filesystem_error.
  void add_children(const std::filesystem::path& folder, const std::string& prefix,
                    std::vector<std::string>& pending);
  [[nodiscard]] bool add_path(const std::filesystem::path& folder, const std::string& path);

  std::optional<std::filesystem::path> blobs_;  // where links may lead
  std::map<std::string, FolderEntry, std::less<>> entries_;
};

}  // namespace sluice::verify
