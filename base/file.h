#pragma once
// Files as RAII values over POSIX descriptors. All paths are opened with O_CLOEXEC. Reads and writes name
// their offset, so one File can be used from several threads at once. Failures throw Error with the path
// and the operation; a full disk is ErrorKind::no_space.

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"

struct stat;

namespace sluice::base {

/// The state of a file's content as a journal records it: it survives a move of the file, to another disk
/// too.
struct FileStamp {
  std::uint64_t size_bytes = 0;
  std::int64_t modified_ns = 0;  ///< since 1970

  friend bool operator==(const FileStamp&, const FileStamp&) = default;
};

/// One file of this machine in one state of its content: all that can be known without reading it. changed_ns
/// (ctime) cannot be set by a program, so it shows that content was replaced under an old modification time.
struct FileIdentity {
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  std::uint64_t size_bytes = 0;
  std::int64_t modified_ns = 0;  ///< since 1970
  std::int64_t changed_ns = 0;   ///< since 1970

  [[nodiscard]] FileStamp stamp() const { return {size_bytes, modified_ns}; }
  friend bool operator==(const FileIdentity&, const FileIdentity&) = default;
};

/// Nothing when there is no such file or the system does not let us see it.
[[nodiscard]] std::optional<FileIdentity> identify(const std::filesystem::path& path);
[[nodiscard]] FileIdentity to_identity(const struct stat& status);

class File final {
 public:
  /// Opens an existing regular file; anything else (a folder, a device, a pipe) is refused.
  [[nodiscard]] static File open_read(const std::filesystem::path& path);
  /// Opens an existing regular file for reading and writing in place.
  [[nodiscard]] static File open_update(const std::filesystem::path& path);
  /// Creates or empties a file.
  [[nodiscard]] static File create(const std::filesystem::path& path);
  /// Creates a file that does not exist yet, with these rights (less the umask); a name that exists, be it a
  /// symbolic link that leads nowhere, is Error{io}.
  [[nodiscard]] static File create_new(const std::filesystem::path& path, mode_t mode = 0666);

  ~File();
  File(File&& other) noexcept;
  File& operator=(File&& other) noexcept;

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  [[nodiscard]] int descriptor() const { return descriptor_; }
  [[nodiscard]] std::uint64_t size_bytes() const;

  /// Reads up to out.size() bytes; fewer only at the end of the file.
  [[nodiscard]] std::size_t read_at(std::uint64_t offset_bytes, MutableBytes out) const;
  /// Fills all of `out`; a file that ends earlier is an Error{malformed}.
  void read_exact_at(std::uint64_t offset_bytes, MutableBytes out) const;
  void write_at(std::uint64_t offset_bytes, Bytes bytes);
  void resize(std::uint64_t size_bytes);
  /// Makes the content durable (fdatasync).
  void sync();
  /// Makes reads and writes bypass the page cache (O_DIRECT): buffers, offsets and lengths must then be
  /// multiples of a page (aligned_buffer.h). False, and no effect, where the file system does not support it.
  [[nodiscard]] bool bypass_cache();
  /// Undoes bypass_cache().
  void use_cache();
  /// Advises the kernel to drop this range from the page cache, so that reading a big release does not push a
  /// running model out of memory. Failures are ignored.
  void drop_cache(std::uint64_t offset_bytes, std::uint64_t length_bytes) const;
  /// Makes the kernel start to write this range to the disk, so that a later sync() waits for less.
  void start_writeback(std::uint64_t offset_bytes, std::uint64_t length_bytes) const;

 private:
  File(int descriptor, std::filesystem::path path);
  [[nodiscard]] static File open(const std::filesystem::path& path, int flags, const char* operation,
                                 mode_t mode = 0666);
  /// Opens the last element of `path` in the folder `parent`.
  [[nodiscard]] static File open_at(int parent, const std::filesystem::path& path, int flags,
                                    const char* operation);
  friend class Directory;

  int descriptor_ = -1;
  std::filesystem::path path_;
};

[[nodiscard]] FileStamp stamp_of(const File& file);

/// True when this user or root owns the file, and neither its group nor others may write it. What a program
/// notes for its next run (which parts of a model are verified, which tensors are converted) counts only in
/// such a file. The folder does not matter: who can write it can put other files there, but none of this
/// user.
[[nodiscard]] bool only_this_user_writes(const File& file);
/// Takes the permission to write from group and others, which a umask of 002 gives them.
void deny_others_writing(File& file);

class MappingGuard;

/// A whole file mapped read-only. The bytes live as long as this object. Another process can cut the file
/// short while it is mapped, or its disk can fail. Such bytes read as zeros instead of ending the process
/// with SIGBUS (guarded_mapping.h), so what was computed from bytes() counts only if require_whole() is
/// called afterwards and does not throw.
class MappedFile final {
 public:
  /// Error{io} also when too many files are mapped already (256 in the process).
  [[nodiscard]] static MappedFile open_read(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  [[nodiscard]] Bytes bytes() const { return bytes_; }
  /// The file's identity when it was mapped.
  [[nodiscard]] const FileIdentity& identity() const { return identity_; }

  /// Error{io} naming the place when a byte was read that the file could not give.
  void require_whole() const;

 private:
  MappedFile();

  std::filesystem::path path_;
  Bytes bytes_;
  std::unique_ptr<MappingGuard> guard_;  // null for an empty file
  FileIdentity identity_;
};

/// Advises the kernel to back mapped bytes by huge pages. For gigabytes that are read from beginning to end:
/// mapping them in pages of 4 KiB takes as long as the computation on them. No effect where kernel or file
/// system cannot do it.
void advise_huge_pages(Bytes mapped);

/// A file that appears under its name only when it is complete. It is written under a hidden random name in
/// the same folder; commit() makes it durable and renames it. Without commit() it is removed; the file of a
/// process that was killed is removed by the next process that writes the same name.
///
/// When the name is a symbolic link of the user, its target is written and the link stays. Error{usage} for a
/// link of another user, and for a name that has anything but a regular file (base/output.h): neither is ever
/// replaced.
class AtomicFile final {
 public:
  explicit AtomicFile(const std::filesystem::path& final_path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  [[nodiscard]] File& file() { return file_; }
  void commit();
  /// Renames without waiting for the disk. For caches, whose readers check what they find.
  void place();

 private:
  friend void write_new_file(const std::filesystem::path& path, Bytes bytes, mode_t mode);
  /// The file that appears under `name`; no link is followed.
  AtomicFile(std::filesystem::path name, mode_t mode);
  /// commit(), but Error{usage} when the name is already taken.
  void commit_new();

  std::filesystem::path final_path_;
  File file_;
  bool committed_ = false;
};

/// True for a name that AtomicFile gives to unfinished files: ".NAME.part-" and 16 hexadecimal digits.
[[nodiscard]] bool is_temporary_name(std::string_view name);

/// The whole content of a small file; one larger than `bytes_max` is an Error of kind malformed.
[[nodiscard]] std::vector<std::byte> read_file(const std::filesystem::path& path,
                                               std::uint64_t bytes_max = 64u << 20);
[[nodiscard]] std::string read_text_file(const std::filesystem::path& path,
                                         std::uint64_t bytes_max = 64u << 20);

/// Writes a small file as AtomicFile does.
void write_file(const std::filesystem::path& path, Bytes bytes);

/// write_file() for a file that must not be there yet: Error{usage} when it is, whatever it holds. The file
/// has these rights (less the umask) from its creation on, so a secret is never readable by others.
void write_new_file(const std::filesystem::path& path, Bytes bytes, mode_t mode = 0666);

/// Makes the names in a folder durable: a rename is only then.
void sync_folder(const std::filesystem::path& path);

/// Creates a folder and its parents; an existing one is fine.
void make_directories(const std::filesystem::path& path);

}  // namespace sluice::base
