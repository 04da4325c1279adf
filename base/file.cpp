// Files over POSIX calls. Nothing here keeps state outside the objects, so every function may be called by
// several threads at once; reads and writes give their offset (pread, pwrite) and share no file position. A
// file that is written appears under its final name only after its content is durable: AtomicFile writes a
// hidden file, syncs it, renames it and syncs the folder, in this order.

#include "base/file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/fsuid.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <span>
#include <string>
#include <system_error>
#include <utility>

#include "base/aligned_buffer.h"
#include "base/digest.h"
#include "base/error.h"
#include "base/file_lock.h"
#include "base/guarded_mapping.h"
#include "base/output.h"

namespace sluice::base {
namespace {

// One system call gets at most so many bytes; Linux stops at 2 GiB - 4 KiB anyway.
constexpr std::size_t kTransferBytesMax = std::size_t{1} << 30;

// The descriptor is asked and not the path: between a check of the path and open(), the path could get
// another file.
void require_regular(int descriptor, const std::filesystem::path& path) {
  struct stat status {};
  if (fstat(descriptor, &status) != 0) throw_errno(path, "stat", errno);
  if (S_ISDIR(status.st_mode)) throw Error(ErrorKind::io, path.string() + ": is a folder, not a file");
  if (!S_ISREG(status.st_mode)) throw Error(ErrorKind::io, path.string() + ": is not a regular file");
}

std::filesystem::path parent_or_dot(const std::filesystem::path& path) {
  return path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
}

constexpr std::string_view kPartMark = ".part-";  // between the final name and the random digits
constexpr std::size_t kRandomDigits = 16;

/// Without the random digits.
std::string temporary_prefix(const std::filesystem::path& final_path) {
  constexpr std::size_t kNameBytesMax = 200;  // leaves room for the rest within NAME_MAX
  return "." + final_path.filename().string().substr(0, kNameBytesMax) + std::string(kPartMark);
}

/// Nobody can predict the digits, so nobody can put a file of theirs under the name in advance.
std::string random_digits() {
  std::array<std::byte, kRandomDigits / 2> bytes;
  if (::getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size()))
    throw Error(ErrorKind::io, std::string("the system gives no random numbers: ") + std::strerror(errno));
  return to_hex(bytes);
}

/// Creates a hidden file in the folder of `final_path`, under a name that no other process or thread uses:
/// several may write the same file. The file is locked as long as it is open, which tells remove_abandoned()
/// that its writer lives.
File create_temporary(const std::filesystem::path& final_path, mode_t mode) {
  const std::filesystem::path folder = parent_or_dot(final_path);
  while (true) {
    File file = File::create_new(folder / (temporary_prefix(final_path) + random_digits()), mode);
    const bool locked = ::flock(file.descriptor(), LOCK_EX | LOCK_NB) == 0;
    // Another process may have seen the file before it was locked, taken it for an abandoned one and removed
    // it. A file system without locks is fine: nothing counts as abandoned there.
    if ((locked || errno != EWOULDBLOCK) && still_has_its_name(file)) return file;
  }
}

/// Removes the unfinished files of this user's processes that were killed: a living process holds the lock on
/// its file.
void remove_abandoned(const std::filesystem::path& final_path) {
  const std::string prefix = temporary_prefix(final_path);
  std::error_code unreadable;
  for (const auto& item : std::filesystem::directory_iterator(parent_or_dot(final_path), unreadable)) {
    const std::string name = item.path().filename().string();
    if (!is_temporary_name(name) || name.size() != prefix.size() + kRandomDigits || !name.starts_with(prefix))
      continue;
    const int descriptor = ::open(item.path().c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (descriptor < 0) continue;
    struct stat status {};
    if (::fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode) && status.st_uid == ::geteuid() &&
        ::flock(descriptor, LOCK_EX | LOCK_NB) == 0)
      ::unlink(item.path().c_str());
    ::close(descriptor);
  }
}

}  // namespace

File::File(int descriptor, std::filesystem::path path) : descriptor_(descriptor), path_(std::move(path)) {}

File::~File() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

File::File(File&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)), path_(std::move(other.path_)) {}

// The swap leaves the old descriptor to `other`, whose destructor closes it.
File& File::operator=(File&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  std::swap(path_, other.path_);
  return *this;
}

File File::open(const std::filesystem::path& path, int flags, const char* operation, mode_t mode) {
  // O_NONBLOCK: opening a pipe must not hang; it has no effect on regular files.
  const int descriptor = ::open(path.c_str(), flags | O_CLOEXEC | O_NONBLOCK, mode);
  if (descriptor < 0) throw_errno(path, operation, errno);
  File file(descriptor, path);  // closes the descriptor when it is not a regular file
  require_regular(descriptor, path);
  return file;
}

File File::open_at(int parent, const std::filesystem::path& path, int flags, const char* operation) {
  const int descriptor = ::openat(parent, path.filename().c_str(), flags | O_CLOEXEC | O_NONBLOCK, 0666);
  if (descriptor < 0 && errno == ELOOP)
    throw Error(ErrorKind::io, path.string() + ": is a symbolic link, which is not followed");
  if (descriptor < 0) throw_errno(path, operation, errno);
  File file(descriptor, path);
  require_regular(descriptor, path);
  return file;
}

File File::open_read(const std::filesystem::path& path) { return open(path, O_RDONLY, "open"); }
File File::open_update(const std::filesystem::path& path) { return open(path, O_RDWR, "open for writing"); }
File File::create(const std::filesystem::path& path) {
  return open(path, O_RDWR | O_CREAT | O_TRUNC, "create");
}
File File::create_new(const std::filesystem::path& path, mode_t mode) {
  return open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, "create", mode);
}

std::uint64_t File::size_bytes() const {
  struct stat status {};
  if (fstat(descriptor_, &status) != 0) throw_errno(path_, "stat", errno);
  return static_cast<std::uint64_t>(status.st_size);
}

std::size_t File::read_at(std::uint64_t offset_bytes, MutableBytes out) const {
  std::size_t done = 0;
  while (done < out.size()) {
    const auto want = std::min(out.size() - done, kTransferBytesMax);
    const auto got = ::pread(descriptor_, out.data() + done, want, static_cast<off_t>(offset_bytes + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw_errno(path_, "read", errno);
    if (got == 0) break;  // end of the file
    done += static_cast<std::size_t>(got);
  }
  return done;
}

void File::read_exact_at(std::uint64_t offset_bytes, MutableBytes out) const {
  const std::size_t got = read_at(offset_bytes, out);
  if (got != out.size()) {
    throw_malformed(path_.string(), "ends at byte " + std::to_string(offset_bytes + got) +
                                        ", expected at least " + std::to_string(offset_bytes + out.size()));
  }
}

void File::write_at(std::uint64_t offset_bytes, Bytes bytes) {
  while (!bytes.empty()) {
    const auto want = std::min(bytes.size(), kTransferBytesMax);
    const auto put = ::pwrite(descriptor_, bytes.data(), want, static_cast<off_t>(offset_bytes));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) throw_errno(path_, "write", errno);
    offset_bytes += static_cast<std::uint64_t>(put);
    bytes = bytes.subspan(static_cast<std::size_t>(put));
  }
}

void File::resize(std::uint64_t size_bytes) {
  if (::ftruncate(descriptor_, static_cast<off_t>(size_bytes)) != 0) throw_errno(path_, "resize", errno);
}

// fdatasync() writes the content and the size, which is what a reader needs; it leaves out the times, and so
// saves a write of the inode.
void File::sync() {
  if (::fdatasync(descriptor_) != 0) throw_errno(path_, "sync", errno);
}

bool File::bypass_cache() {
  const int flags = ::fcntl(descriptor_, F_GETFL);
  if (flags < 0 || ::fcntl(descriptor_, F_SETFL, flags | O_DIRECT) != 0) return false;
  // Some file systems accept the flag and refuse the first read.
  AlignedBuffer page(kPageBytes);
  if (::pread(descriptor_, page.bytes().data(), kPageBytes, 0) >= 0 || errno != EINVAL) return true;
  ::fcntl(descriptor_, F_SETFL, flags);
  return false;
}

void File::use_cache() {
  const int flags = ::fcntl(descriptor_, F_GETFL);
  if (flags < 0 || ::fcntl(descriptor_, F_SETFL, flags & ~O_DIRECT) != 0)
    throw_errno(path_, "go back to the cache of", errno);
}

// The kernel drops only clean pages. Pages that were written must be synced first.
void File::drop_cache(std::uint64_t offset_bytes, std::uint64_t length_bytes) const {
  ::posix_fadvise(descriptor_, static_cast<off_t>(offset_bytes), static_cast<off_t>(length_bytes),
                  POSIX_FADV_DONTNEED);
}

// Starts the write and does not wait for it. That makes nothing durable: sync_file_range() does not write
// metadata and does not flush the disk's cache.
void File::start_writeback(std::uint64_t offset_bytes, std::uint64_t length_bytes) const {
  ::sync_file_range(descriptor_, static_cast<off_t>(offset_bytes), static_cast<off_t>(length_bytes),
                    SYNC_FILE_RANGE_WRITE);
}

FileIdentity to_identity(const struct stat& status) {
  // Nanoseconds since 1970 fit 63 bits until the year 2262.
  const auto ns = [](const struct timespec& time) {
    return static_cast<std::int64_t>(time.tv_sec) * 1'000'000'000 + time.tv_nsec;
  };
  return {status.st_dev, status.st_ino, static_cast<std::uint64_t>(status.st_size), ns(status.st_mtim),
          ns(status.st_ctim)};
}

std::optional<FileIdentity> identify(const std::filesystem::path& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return std::nullopt;
  return to_identity(status);
}

FileStamp stamp_of(const File& file) {
  struct stat status {};
  if (::fstat(file.descriptor(), &status) != 0) throw_errno(file.path(), "stat", errno);
  return to_identity(status).stamp();
}

bool only_this_user_writes(const File& file) {
  struct stat status {};
  if (::fstat(file.descriptor(), &status) != 0) return false;
  // The user as whom this thread opens files. Asking for an impossible one changes nothing and is the only
  // way to learn it.
  const auto user = static_cast<uid_t>(::setfsuid(static_cast<uid_t>(-1)));
  // An access control list that lets others write shows in the group's bits, which are its mask.
  return (status.st_uid == user || status.st_uid == 0) && (status.st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

// A failure costs the next run its knowledge, and nothing else.
void deny_others_writing(File& file) {
  struct stat status {};
  if (::fstat(file.descriptor(), &status) != 0) return;
  ::fchmod(file.descriptor(), status.st_mode & 0777 & ~static_cast<mode_t>(S_IWGRP | S_IWOTH));
}

MappedFile MappedFile::open_read(const std::filesystem::path& path) {
  const File file = File::open_read(path);
  const auto size = static_cast<std::size_t>(file.size_bytes());
  MappedFile mapped;
  mapped.path_ = path;
  struct stat status {};
  if (::fstat(file.descriptor(), &status) != 0) throw_errno(path, "look at", errno);
  mapped.identity_ = to_identity(status);
  if (size == 0) return mapped;
  // The mapping stays when `file` closes its descriptor.
  void* address = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, file.descriptor(), 0);
  if (address == MAP_FAILED) throw_errno(path, "map", errno);
  mapped.bytes_ = Bytes(static_cast<const std::byte*>(address), size);
  mapped.guard_ = std::make_unique<MappingGuard>(mapped.bytes_);
  // Without a guard, a fault would end the process.
  if (!mapped.guard_->is_active()) throw Error(ErrorKind::io, path.string() + ": too many files are mapped");
  return mapped;
}

MappedFile::MappedFile() = default;

void MappedFile::require_whole() const {
  const auto at_bytes = guard_ ? guard_->broken_at_bytes() : std::nullopt;
  if (!at_bytes) return;
  throw Error(ErrorKind::io,
              path_.string() + ": byte " + std::to_string(*at_bytes) +
                  " can no longer be read: the file was cut, or its disk failed, while it was in use");
}

void advise_huge_pages(Bytes mapped) {
  const auto address = reinterpret_cast<std::uintptr_t>(mapped.data());
  // madvise() wants whole pages. The beginning is rounded up and not down, so that no memory in front of the
  // bytes is affected.
  const std::uintptr_t begin = align_up(address, kPageBytes);
  if (begin < address + mapped.size())
    ::madvise(reinterpret_cast<void*>(begin), address + mapped.size() - begin, MADV_HUGEPAGE);
}

// The guard goes first: another thread may get the addresses for a mapping of its own as soon as they are
// free.
MappedFile::~MappedFile() {
  guard_.reset();
  if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      bytes_(std::exchange(other.bytes_, {})),
      guard_(std::move(other.guard_)),
      identity_(other.identity_) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(bytes_, other.bytes_);
  std::swap(guard_, other.guard_);
  std::swap(identity_, other.identity_);
  return *this;
}

bool is_temporary_name(std::string_view name) {
  const std::size_t mark = name.rfind(kPartMark);
  if (!name.starts_with('.') || mark == std::string_view::npos) return false;
  const std::string_view digits = name.substr(mark + kPartMark.size());
  return digits.size() == kRandomDigits &&
         digits.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

AtomicFile::AtomicFile(const std::filesystem::path& final_path)
    : AtomicFile(output_target(final_path), 0666) {}

AtomicFile::AtomicFile(std::filesystem::path name, mode_t mode)
    : final_path_(std::move(name)), file_(create_temporary(final_path_, mode)) {
  remove_abandoned(final_path_);
}

AtomicFile::~AtomicFile() {
  if (!committed_) ::unlink(file_.path().c_str());
}

// The order makes the file appear as a whole or not at all, also after a power loss: content first, then the
// name, then the folder that holds the name.
void AtomicFile::commit() {
  file_.sync();
  place();
  sync_folder(parent_or_dot(final_path_));
}

// Without the syncs, a power loss can leave an empty file under the final name.
void AtomicFile::place() {
  // The name was free or a regular file's at the beginning, which may be hours ago.
  require_replaceable(final_path_);
  if (::rename(file_.path().c_str(), final_path_.c_str()) != 0)
    throw_errno(final_path_, "rename into place", errno);
  committed_ = true;
}

void AtomicFile::commit_new() {
  file_.sync();
  // A check that the name is free, followed by rename(), would be a race: two processes could both find it
  // free.
  if (::renameat2(AT_FDCWD, file_.path().c_str(), AT_FDCWD, final_path_.c_str(), RENAME_NOREPLACE) == 0) {
    committed_ = true;
  } else if (errno != EINVAL || ::link(file_.path().c_str(), final_path_.c_str()) != 0) {
    // Not every file system supports RENAME_NOREPLACE. A hard link never replaces a file either; the
    // destructor removes the temporary name.
    if (errno == EEXIST)
      throw Error(ErrorKind::usage, final_path_.string() + ": is there already, and is not overwritten");
    throw_errno(final_path_, "rename into place", errno);
  }
  sync_folder(parent_or_dot(final_path_));
}

namespace {

/// Reads straight into the result: the content may be large, and there is only one copy of it.
template <typename Container>
Container read_whole(const std::filesystem::path& path, std::uint64_t bytes_max) {
  const File file = File::open_read(path);
  const std::uint64_t size = file.size_bytes();
  if (size > bytes_max) {
    throw_malformed(path.string(),
                    "has " + std::to_string(size) + " bytes, expected at most " + std::to_string(bytes_max));
  }
  Container content(static_cast<std::size_t>(size), typename Container::value_type{});
  file.read_exact_at(0, std::as_writable_bytes(std::span(content)));
  return content;
}

}  // namespace

std::vector<std::byte> read_file(const std::filesystem::path& path, std::uint64_t bytes_max) {
  return read_whole<std::vector<std::byte>>(path, bytes_max);
}

std::string read_text_file(const std::filesystem::path& path, std::uint64_t bytes_max) {
  return read_whole<std::string>(path, bytes_max);
}

void write_file(const std::filesystem::path& path, Bytes bytes) {
  AtomicFile atomic(path);
  atomic.file().write_at(0, bytes);
  atomic.commit();
}

void write_new_file(const std::filesystem::path& path, Bytes bytes, mode_t mode) {
  AtomicFile atomic(path, mode);
  atomic.file().write_at(0, bytes);
  atomic.commit_new();
}

// A rename is durable only when the folder is.
void sync_folder(const std::filesystem::path& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) throw_errno(path, "open folder", errno);
  const int result = ::fsync(descriptor);
  const int cause = errno;
  ::close(descriptor);
  // Some file systems cannot sync a folder and fail with EINVAL; nothing more can be done there.
  if (result != 0 && cause != EINVAL) throw_errno(path, "sync folder", cause);
}

void make_directories(const std::filesystem::path& path) {
  std::error_code code;
  std::filesystem::create_directories(path, code);
  if (code) throw_errno(path, "create folder", code.value());
}

}  // namespace sluice::base
