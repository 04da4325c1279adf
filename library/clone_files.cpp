#include "library/clone_files.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <vector>

#include "base/directory.h"
#include "base/error.h"

namespace sluice::library {
namespace {

namespace fs = std::filesystem;

/// Copies in the kernel. Chunks keep the wait for a stop request short.
void copy_bytes(const base::File& from, base::File& to, std::uint64_t length_bytes, const Context& context) {
  constexpr std::uint64_t kChunkBytes = 16u << 20;
  off_t in = 0;
  off_t out = 0;
  while (static_cast<std::uint64_t>(in) < length_bytes) {
    if (context.stop.stop_requested()) throw base::Error(base::ErrorKind::interrupted, "interrupted");
    const auto chunk = std::min(kChunkBytes, length_bytes - static_cast<std::uint64_t>(in));
    const ssize_t count = ::copy_file_range(from.descriptor(), &in, to.descriptor(), &out, chunk, 0);
    if (count < 0) base::throw_errno(to.path(), "copy to", errno);
    if (count == 0) base::throw_malformed(from.path().string(), "became shorter while it was copied");
    context.observer.progress().advance(static_cast<std::uint64_t>(count));
  }
  to.sync();
}

/// One file, which appears under its name only when it is whole. Nothing when it is not needed or not there.
void clone_file(const fs::path& from, const base::Directory& folder, const fs::path& relative,
                std::uint64_t length_bytes, const Context& context) {
  const auto source = base::File::open_read(from);
  const fs::path part = relative.parent_path() / ("." + relative.filename().string() + ".clone");
  auto copy = folder.open_or_create(part);  // creates the folders on the way, and follows no link
  copy.resize(0);
  if (::ioctl(copy.descriptor(), FICLONE, source.descriptor()) == 0) {
    context.observer.progress().advance(length_bytes);
  } else if (fs::remove(folder.path() / part);
             ::link(from.c_str(), (folder.path() / relative).c_str()) == 0) {
    context.observer.progress().advance(length_bytes);
    return;
  } else {
    copy = folder.open_or_create(part);
    copy_bytes(source, copy, length_bytes, context);
  }
  folder.rename(part, relative);
}

}  // namespace

std::uint64_t clone_files(const format::ReleaseLayout& layout, const fs::path& from, const fs::path& to,
                          const Context& context) {
  const fs::path name = layout.single_file ? fs::path() : fs::path(layout.name);
  const auto folder = base::Directory::open(to);
  std::vector<const format::ReleaseFile*> files;
  std::uint64_t bytes = 0;
  std::error_code absent;
  for (const auto& file : layout.files) {
    const fs::path source = from / name / file.path;
    if (file.pad || fs::exists(fs::symlink_status(to / name / file.path, absent))) continue;
    if (!fs::is_regular_file(source, absent) || fs::file_size(source, absent) != file.length_bytes) continue;
    files.push_back(&file);
    bytes += file.length_bytes;
  }
  if (files.empty()) return 0;
  context.observer.progress().begin("copying", bytes);
  for (const auto* file : files)
    clone_file(from / name / file->path, folder, name / file->path, file->length_bytes, context);
  context.observer.on_work_end();
  return bytes;
}

}  // namespace sluice::library
