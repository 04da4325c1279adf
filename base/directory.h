#pragma once
// A folder and the files below it. Every name on the way is opened step by step from the folder, and no
// symbolic link is followed, so no name leads out of the folder. For folders whose file names come from
// strangers (a torrent) or that strangers can change.

#include <filesystem>
#include <optional>

#include "base/file.h"

namespace sluice::base {

/// Paths are relative and have no "." or "..": a caller that passes others has a bug. Symbolic links and
/// files that are not regular are Error{io}. May be used by several threads at once.
class Directory final {
 public:
  [[nodiscard]] static Directory open(const std::filesystem::path& path);
  ~Directory();
  Directory(Directory&& other) noexcept;
  Directory& operator=(Directory&& other) noexcept;

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

  [[nodiscard]] File open_read(const std::filesystem::path& relative) const;
  [[nodiscard]] File open_update(const std::filesystem::path& relative) const;
  /// Opens for reading and writing. Creates the file, and the folders on the way, durably when they do not
  /// exist.
  [[nodiscard]] File open_or_create(const std::filesystem::path& relative) const;
  /// Nothing when there is no such file.
  [[nodiscard]] std::optional<FileStamp> find(const std::filesystem::path& relative) const;
  /// Both names are below this folder; folders on the way to `to` are created. Durable on return.
  void rename(const std::filesystem::path& from, const std::filesystem::path& to) const;

 private:
  Directory(int descriptor, std::filesystem::path path);

  int descriptor_ = -1;
  std::filesystem::path path_;
};

}  // namespace sluice::base
