#pragma once
// What lies in a release folder. Symbolic links are seen, never followed: a link could make a file outside
// the folder count as part of the release.

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::verify {

enum class EntryKind : std::uint8_t { file, folder, symlink, other, unreadable };

struct Entry {
  EntryKind kind = EntryKind::file;
  std::uint64_t bytes = 0;  ///< of a file
};

/// Why an entry cannot be read as a file; empty for a file.
[[nodiscard]] std::string describe(EntryKind kind);

class FolderScan {
 public:
  /// All that is below `folder`, without Sluice's own files. Error{io} when it is not a folder that can be
  /// read.
  [[nodiscard]] static FolderScan walk(const std::filesystem::path& folder);

  /// Only what stands at `paths`: for a file that lies in a folder among strangers.
  [[nodiscard]] static FolderScan look_up(const std::filesystem::path& folder,
                                          const std::vector<std::string>& paths);

  /// The entry at `path`, or the parent of it that keeps us from looking there; nullptr when there is none.
  [[nodiscard]] const Entry* find(std::string_view path) const;

  /// By path below the folder, with '/'.
  [[nodiscard]] const std::map<std::string, Entry, std::less<>>& entries() const { return entries_; }

 private:
  // Throws std::filesystem::filesystem_error.
  void add_children(const std::filesystem::path& folder, const std::string& prefix,
                    std::vector<std::string>& pending);
  [[nodiscard]] bool look_at(const std::filesystem::path& folder, const std::string& path);

  std::map<std::string, Entry, std::less<>> entries_;
};

}  // namespace sluice::verify
