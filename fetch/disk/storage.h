#pragma once
// The interface between a fetch and the disk. Tests replace it by one that remembers every write and loses
// those that were not synced, as a power loss does.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>

#include "base/bytes.h"
#include "base/directory.h"

namespace sluice::fetch {

/// An open file. May be used by several threads at once. Errors: io, no_space.
class StorageFile {
 public:
  virtual ~StorageFile() = default;
  /// Returns the bytes read: fewer than requested only at the end of the file.
  [[nodiscard]] virtual std::size_t read_at(std::uint64_t offset_bytes, base::MutableBytes out) const = 0;
  virtual void write_at(std::uint64_t offset_bytes, base::Bytes bytes) = 0;
  virtual void resize(std::uint64_t size_bytes) = 0;
  /// All earlier writes, the file's length and its name are durable on return.
  virtual void sync() = 0;
  [[nodiscard]] virtual base::FileStamp stamp() const = 0;
  /// Both are hints to the kernel, as in base::File; failures are ignored.
  virtual void start_writeback(std::uint64_t offset_bytes, std::uint64_t length_bytes) const = 0;
  virtual void drop_cache(std::uint64_t offset_bytes, std::uint64_t length_bytes) const = 0;
};

/// Files addressed by path below one folder. base::Directory says which paths are refused.
class Storage {
 public:
  virtual ~Storage() = default;
  /// The file must exist.
  [[nodiscard]] virtual std::shared_ptr<StorageFile> open_read(const std::filesystem::path& path) = 0;
  /// Creates the file and its folders when they do not exist; their names are durable on return.
  [[nodiscard]] virtual std::shared_ptr<StorageFile> open_or_create(const std::filesystem::path& path) = 0;
  /// Nothing when the file does not exist.
  [[nodiscard]] virtual std::optional<base::FileStamp> find(const std::filesystem::path& path) const = 0;
  /// Creates the folders of `to`; the new name is durable on return.
  virtual void rename(const std::filesystem::path& from, const std::filesystem::path& to) = 0;
};

[[nodiscard]] std::unique_ptr<Storage> open_storage(const std::filesystem::path& folder);

}  // namespace sluice::fetch
