#pragma once
// A folder and what lies below it, reached step by step: no name on the way is followed when it is a symbolic
// link, and none leads out. For folders whose file names come from strangers, or that strangers can change.

#include <cstdint>
#include <filesystem>
#include <optional>

#include "base/file.h"

namespace sluice::base {

/// What tells a file that was changed from one that was not.
struct FileStamp {
  std::uint64_t size_bytes = 0;
  std::int64_t modified_ns = 0;  ///< since 1970

  friend bool operator==(const FileStamp&, const FileStamp&) = default;
};

/// Paths are relative, without "." and "..": a caller that passes others has a bug. Links and things that are
/// no regular files are Error{io}. May be used by several threads at once.
class Directory final {
 public:
  [[nodiscard]] static Directory open(const std::filesystem::path& path);
  ~Directory();
  Directory(Directory&& other) noexcept;
  Directory& operator=(Directory&& other) noexcept;

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

  [[nodiscard]] File open_read(const std::filesystem::path& relative) const;
  [[nodiscard]] File open_update(const std::filesystem::path& relative) const;
  /// Opens for reading and writing; makes the file, and the folders to it, durably when they are not there.
  [[nodiscard]] File open_or_create(const std::filesystem::path& relative) const;
  /// Nothing when there is no such file.
  [[nodiscard]] std::optional<FileStamp> find(const std::filesystem::path& relative) const;
  /// Both names below this folder; folders to `to` are made. Durable on return.
  void rename(const std::filesystem::path& from, const std::filesystem::path& to) const;

 private:
  Directory(int descriptor, std::filesystem::path path);

  int descriptor_ = -1;
  std::filesystem::path path_;
};

[[nodiscard]] FileStamp stamp_of(const File& file);

}  // namespace sluice::base
