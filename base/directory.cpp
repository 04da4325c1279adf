// Opens names one element at a time with openat() and O_NOFOLLOW. A check of the whole path followed by
// open() would be a race: whoever can write the folder could put a symbolic link in between. After an entry
// was created or renamed, its folder is synced, which makes the entry durable.

#include "base/directory.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "base/error.h"
#include "base/invariant.h"

namespace sluice::base {
namespace {

namespace fs = std::filesystem;

class Descriptor {
 public:
  explicit Descriptor(int value) : value_(value) {}
  ~Descriptor() {
    if (value_ >= 0) ::close(value_);
  }
  Descriptor(Descriptor&& other) noexcept : value_(std::exchange(other.value_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(value_, other.value_);
    return *this;
  }
  [[nodiscard]] int get() const { return value_; }

 private:
  int value_;
};

[[noreturn]] void fail(const fs::path& path, const char* operation, int cause) {
  // O_NOFOLLOW fails with ELOOP for a link to a file, and with ENOTDIR for a link in place of a folder.
  struct stat status {};
  if ((cause == ELOOP || cause == ENOTDIR) && ::lstat(path.c_str(), &status) == 0 && S_ISLNK(status.st_mode))
    throw Error(ErrorKind::io, path.string() + ": is a symbolic link, which is not followed");
  throw_errno(path, operation, cause);
}

void sync_folder(int descriptor, const fs::path& path) {
  // Some file systems cannot sync a folder and fail with EINVAL; nothing more can be done there.
  if (::fsync(descriptor) != 0 && errno != EINVAL) throw_errno(path, "sync folder", errno);
}

Descriptor open_folder(int parent, const char* name) {
  return Descriptor(::openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
}

/// Says whether open_parent() makes a missing folder on the way.
enum class Missing { fail, create, report };

/// The folder that holds `relative`. With Missing::report, a folder that is missing gives a negative
/// descriptor.
Descriptor open_parent(int root, const fs::path& root_path, const fs::path& relative, Missing missing) {
  INVARIANT(relative.is_relative() && relative.has_filename());
  // A descriptor of its own, so that the loop can close each folder on the way, also this first one.
  Descriptor folder = open_folder(root, ".");
  if (folder.get() < 0) throw_errno(root_path, "open folder", errno);
  fs::path path = root_path;
  for (const fs::path& element : relative.parent_path()) {
    INVARIANT(element != ".." && element != "." && !element.empty());
    path /= element;
    Descriptor next = open_folder(folder.get(), element.c_str());
    if (next.get() < 0 && errno == ENOENT && missing == Missing::create) {
      // EEXIST is fine: another thread has created the folder between the two calls.
      if (::mkdirat(folder.get(), element.c_str(), 0777) != 0 && errno != EEXIST)
        throw_errno(path, "create folder", errno);
      sync_folder(folder.get(), path.parent_path());
      next = open_folder(folder.get(), element.c_str());
    }
    if (next.get() < 0) {
      if (errno == ENOENT && missing == Missing::report) return Descriptor(-1);
      fail(path, "open folder", errno);
    }
    folder = std::move(next);
  }
  return folder;
}

}  // namespace

Directory::Directory(int descriptor, fs::path path) : descriptor_(descriptor), path_(std::move(path)) {}

// The root itself is the user's choice and may be a link. Everything below it may not.
Directory Directory::open(const fs::path& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) throw_errno(path, "open folder", errno);
  return {descriptor, path};
}

Directory::~Directory() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

Directory::Directory(Directory&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)), path_(std::move(other.path_)) {}

Directory& Directory::operator=(Directory&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  std::swap(path_, other.path_);
  return *this;
}

File Directory::open_read(const fs::path& relative) const {
  const Descriptor parent = open_parent(descriptor_, path_, relative, Missing::fail);
  return File::open_at(parent.get(), path_ / relative, O_RDONLY | O_NOFOLLOW, "open");
}

File Directory::open_update(const fs::path& relative) const {
  const Descriptor parent = open_parent(descriptor_, path_, relative, Missing::fail);
  return File::open_at(parent.get(), path_ / relative, O_RDWR | O_NOFOLLOW, "open for writing");
}

File Directory::open_or_create(const fs::path& relative) const {
  const Descriptor parent = open_parent(descriptor_, path_, relative, Missing::create);
  struct stat status {};
  // Asked only to know whether the folder must be synced; the answer may be out of date without harm.
  const bool exists = ::fstatat(parent.get(), relative.filename().c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0;
  File file = File::open_at(parent.get(), path_ / relative, O_RDWR | O_CREAT | O_NOFOLLOW, "create");
  if (!exists) sync_folder(parent.get(), (path_ / relative).parent_path());
  return file;
}

std::optional<FileStamp> Directory::find(const fs::path& relative) const {
  const Descriptor parent = open_parent(descriptor_, path_, relative, Missing::report);
  if (parent.get() < 0) return std::nullopt;
  const fs::path path = path_ / relative;
  struct stat status {};
  if (::fstatat(parent.get(), relative.filename().c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) {
    if (errno == ENOENT) return std::nullopt;
    throw_errno(path, "look at", errno);
  }
  if (S_ISLNK(status.st_mode))
    throw Error(ErrorKind::io, path.string() + ": is a symbolic link, which is not followed");
  if (!S_ISREG(status.st_mode)) throw Error(ErrorKind::io, path.string() + ": is not a regular file");
  return to_identity(status).stamp();
}

void Directory::rename(const fs::path& from, const fs::path& to) const {
  const Descriptor source = open_parent(descriptor_, path_, from, Missing::fail);
  const Descriptor target = open_parent(descriptor_, path_, to, Missing::create);
  if (::renameat(source.get(), from.filename().c_str(), target.get(), to.filename().c_str()) != 0)
    throw_errno(path_ / from, "rename", errno);
  // The new name first: a power loss between the two syncs may leave the file under both names, but never
  // under none.
  sync_folder(target.get(), (path_ / to).parent_path());
  sync_folder(source.get(), (path_ / from).parent_path());
}

}  // namespace sluice::base
