#pragma once
// Files as RAII values over POSIX descriptors. All paths are opened with O_CLOEXEC. Reads and writes name
// their offset, so one File can be used from several threads at once. Failures throw Error with the path
// and the operation; a full disk is ErrorKind::no_space.

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"

namespace sluice::base {

/// Which file it is, and which state of its content: all that can be known without reading it. changed_ns
/// (ctime) cannot be set, so a content that was replaced under an old modification time shows.
struct FileIdentity {
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  std::uint64_t size_bytes = 0;
  std::int64_t modified_ns = 0;  ///< since 1970
  std::int64_t changed_ns = 0;

  friend bool operator==(const FileIdentity&, const FileIdentity&) = default;
};

/// Nothing when there is no such file, or it cannot be looked at.
[[nodiscard]] std::optional<FileIdentity> identify(const std::filesystem::path& path);

class File final {
 public:
  /// Opens an existing regular file; anything else (a folder, a device, a pipe) is refused.
  [[nodiscard]] static File open_read(const std::filesystem::path& path);
  /// Opens an existing regular file for reading and writing in place.
  [[nodiscard]] static File open_update(const std::filesystem::path& path);
  /// Creates or empties a file.
  [[nodiscard]] static File create(const std::filesystem::path& path);

  ~File();
  File(File&& other) noexcept;
  File& operator=(File&& other) noexcept;

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  [[nodiscard]] int descriptor() const { return descriptor_; }
  [[nodiscard]] std::uint64_t size_bytes() const;

  /// Reads up to out.size() bytes; fewer only at the end of the file.
  [[nodiscard]] std::size_t read_at(std::uint64_t offset_bytes, MutableBytes out) const;
  /// Reads all of `out`; a file that ends before is an Error of kind malformed.
  void read_exact_at(std::uint64_t offset_bytes, MutableBytes out) const;
  void write_at(std::uint64_t offset_bytes, Bytes bytes);
  void resize(std::uint64_t size_bytes);
  /// Makes the content durable (fdatasync).
  void sync();
  /// From now on reads and writes go past the page cache: buffers, offsets and lengths must be multiples of a page
  /// (aligned_buffer.h). False, and nothing changes, where the file system does not do that.
  [[nodiscard]] bool bypass_cache();
  /// Undoes bypass_cache().
  void use_cache();
  /// Tells the kernel that this range will not be needed again soon, so that reading a big release does
  /// not push a running model out of memory. Only advice: failures are ignored.
  void drop_cache(std::uint64_t offset_bytes, std::uint64_t length_bytes) const;
  /// Tells the kernel to begin writing this range to the disk, so that a later sync() has less to wait for.
  void start_writeback(std::uint64_t offset_bytes, std::uint64_t length_bytes) const;

 private:
  File(int descriptor, std::filesystem::path path);
  [[nodiscard]] static File open(const std::filesystem::path& path, int flags, const char* operation);
  /// The last element of `path` in the folder `parent`.
  [[nodiscard]] static File open_at(int parent, const std::filesystem::path& path, int flags,
                                    const char* operation);
  friend class Directory;

  int descriptor_ = -1;
  std::filesystem::path path_;
};

/// A whole file mapped read-only. The bytes live as long as this object. A file that another process cuts
/// short while it is mapped makes the process end with SIGBUS, as for every program that maps files.
class MappedFile final {
 public:
  [[nodiscard]] static MappedFile open_read(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  [[nodiscard]] Bytes bytes() const { return bytes_; }
  /// As it was when it was mapped.
  [[nodiscard]] const FileIdentity& identity() const { return identity_; }

 private:
  MappedFile() = default;

  std::filesystem::path path_;
  Bytes bytes_;
  FileIdentity identity_;
};

/// Of mapped bytes that are going to be read from beginning to end: a fault then reads, caches and maps megabytes
/// where the kernel and the file system can. (Of gigabytes in pages of 4 KiB, the mapping alone takes as long as
/// computing with them.)
void advise_huge_pages(Bytes mapped);

/// A file that appears under its name only when it is complete: it is written beside it under a hidden
/// name, and commit() makes it durable and renames it. Without commit() nothing is left behind; what a killed
/// process left behind is removed by the next one that writes the same name.
class AtomicFile final {
 public:
  explicit AtomicFile(const std::filesystem::path& final_path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  [[nodiscard]] File& file() { return file_; }
  void commit();
  /// Gives it its name without waiting for the disk: for caches, whose readers check what they find.
  void place();
  /// commit() unless there is something of that name: Error{usage} then.
  void commit_new();

 private:
  std::filesystem::path final_path_;
  std::filesystem::path temporary_path_;
  File file_;
  bool committed_ = false;
};

/// The whole content of a small file; one larger than `bytes_max` is an Error of kind malformed.
[[nodiscard]] std::vector<std::byte> read_file(const std::filesystem::path& path,
                                               std::uint64_t bytes_max = 64u << 20);
[[nodiscard]] std::string read_text_file(const std::filesystem::path& path,
                                         std::uint64_t bytes_max = 64u << 20);

/// Writes a small file as AtomicFile does.
void write_file(const std::filesystem::path& path, Bytes bytes);

/// write_file() for a file that must not be there yet: Error{usage} when it is, whatever it holds.
void write_new_file(const std::filesystem::path& path, Bytes bytes, mode_t mode = 0666);

/// Makes the names in a folder durable: a rename is only then.
void sync_folder(const std::filesystem::path& path);

/// Creates a folder and its parents; an existing one is fine.
void make_directories(const std::filesystem::path& path);

/// An exclusive lock on a file that stands for something shared, held as long as the object lives.
/// Waits for another process that holds it.
class FileLock final {
 public:
  explicit FileLock(const std::filesystem::path& path);

 private:
  File file_;
};

}  // namespace sluice::base
