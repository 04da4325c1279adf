#include "fetch/file_system.h"

#include <linux/magic.h>
#include <sys/vfs.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>

#include "base/error.h"

namespace sluice::fetch {
namespace {

// These numbers are not in linux/magic.h.
constexpr std::uint64_t kZfs = 0x2fc12fc1;
constexpr std::uint64_t kNtfs3 = 0x7366746e;
constexpr std::uint64_t kLustre = 0x0bd00bd0;
constexpr std::uint64_t kGpfs = 0x47504653;
constexpr std::uint64_t kCifs = 0xff534d42;
constexpr std::uint64_t kSmb2 = 0xfe534d42;

constexpr std::string_view kNetwork =
    "a network file system: what was made durable is so only if the server keeps its word";
constexpr std::string_view kCopyOnWrite =
    "copies on write: pieces that arrive in no order leave the files in many fragments";
constexpr std::string_view kMemory = "lies in memory: what is fetched takes RAM and is gone after a restart";
constexpr std::string_view kFat = "cannot hold files of 4 GiB or more, nor files with holes";
constexpr std::string_view kNoHoles = "cannot hold files with holes: the first write to a file may take long";
// A FAT directory entry has 32 bits for the length of a file.
constexpr std::uint64_t kFatFileBytesMax = 0xffffffff;

struct Known {
  std::uint64_t magic;
  std::string_view name;
  std::string_view warning;
};

constexpr std::array kKnown{
    Known{EXT4_SUPER_MAGIC, "ext4", ""},
    Known{XFS_SUPER_MAGIC, "xfs", ""},
    Known{F2FS_SUPER_MAGIC, "f2fs", ""},
    Known{OVERLAYFS_SUPER_MAGIC, "overlay", ""},
    Known{FUSE_SUPER_MAGIC, "fuse", ""},
    Known{ECRYPTFS_SUPER_MAGIC, "ecryptfs", ""},
    Known{BTRFS_SUPER_MAGIC, "btrfs", kCopyOnWrite},
    Known{kZfs, "zfs", kCopyOnWrite},
    Known{TMPFS_MAGIC, "tmpfs", kMemory},
    Known{RAMFS_MAGIC, "ramfs", kMemory},
    Known{NFS_SUPER_MAGIC, "nfs", kNetwork},
    Known{kCifs, "cifs", kNetwork},
    Known{kSmb2, "smb", kNetwork},
    Known{SMB_SUPER_MAGIC, "smb", kNetwork},
    Known{CEPH_SUPER_MAGIC, "ceph", kNetwork},
    Known{AFS_FS_MAGIC, "afs", kNetwork},
    Known{V9FS_MAGIC, "9p", kNetwork},
    Known{kLustre, "lustre", kNetwork},
    Known{kGpfs, "gpfs", kNetwork},
    Known{MSDOS_SUPER_MAGIC, "vfat", kFat},
    Known{EXFAT_SUPER_MAGIC, "exfat", kNoHoles},
    Known{kNtfs3, "ntfs", ""},
};

}  // namespace

FileSystem describe_file_system(std::uint64_t magic) {
  const auto known = std::ranges::find(kKnown, magic, &Known::magic);
  if (known == kKnown.end()) {
    std::array<char, 40> name{};
    std::snprintf(name.data(), name.size(), "unknown (0x%llx)", static_cast<unsigned long long>(magic));
    return {name.data(), "", std::nullopt};
  }
  FileSystem found{std::string(known->name), std::string(known->warning), std::nullopt};
  if (magic == MSDOS_SUPER_MAGIC) found.file_bytes_max = kFatFileBytesMax;
  return found;
}

FileSystem find_file_system(const std::filesystem::path& folder) {
  struct statfs info {};
  if (::statfs(folder.c_str(), &info) != 0) base::throw_errno(folder, "ask for the file system of", errno);
  // f_type is signed on some machines; only 32 bits are significant.
  return describe_file_system(static_cast<std::uint32_t>(info.f_type));
}

}  // namespace sluice::fetch
