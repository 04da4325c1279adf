// Reads a zip file's directory and headers (PKWARE APPNOTE.TXT; section numbers below are of that document).
//
// read() is for loading: it finds the directory from the end record, reads its entries, and then checks every
// local header and data descriptor against them, and that members fill the file from its first byte to the
// directory. read_outline() is for damaged files: it uses the directory only and computes each payload's
// place from the neighbouring headers. Either way each length is checked against what encloses it before it
// is used, and the directory is limited to 16 MiB.
//
// A zip file states most facts twice, in the directory and in front of each member, and programs differ in
// which of the two they believe. A file in which the two differ can show one content to a scanner and another
// to torch (CVE-2025-1944, CVE-2025-1945). The strict reader therefore accepts only files that every reader
// understands in the same way. Reads are positional; everything runs on the caller's thread.

#include "format/zip_index.h"

#include <algorithm>
#include <optional>
#include <unordered_set>

#include "base/error.h"
#include "base/text.h"
#include "base/zip_codec.h"

namespace sluice::format {
namespace {

using base::Bytes;
using base::load_le;

// Signatures and fixed lengths of the records: 4.3.7 (local header), 4.3.12 (entry of the directory), 4.3.16
// (end record), 4.3.14 and 4.3.15 (zip64 end record and its locator), 4.3.9 (data descriptor).
constexpr std::uint32_t kLocalSignature = 0x04034b50;
constexpr std::uint32_t kCentralSignature = 0x02014b50;
constexpr std::uint32_t kDescriptorSignature = 0x08074b50;
constexpr std::uint32_t kEndSignature = 0x06054b50;
constexpr std::uint32_t kEnd64Signature = 0x06064b50;
constexpr std::uint32_t kLocator64Signature = 0x07064b50;

constexpr std::uint64_t kLocalBytes = 30;
constexpr std::uint64_t kCentralBytes = 46;
constexpr std::uint64_t kEndBytes = 22;
constexpr std::uint64_t kEnd64Bytes = 56;
constexpr std::uint64_t kLocator64Bytes = 20;
constexpr std::uint64_t kDescriptorBytes = 16;
constexpr std::uint64_t kDescriptor64Bytes = 24;
// torch pads the extra field of each local header until the payload starts on this multiple.
constexpr std::uint64_t kTorchAlignmentBytes = 64;

// Far above any checkpoint (1,000 to 10,000 members of about 90 bytes), and harmless to read.
constexpr std::uint64_t kDirectoryBytesMax = 16u << 20;
constexpr std::uint16_t kNameBytesMax = 1024;

// A field with this value is too narrow for its number, which then stands in the zip64 record.
constexpr std::uint32_t kSaturated32 = 0xFFFFFFFF;
constexpr std::uint16_t kSaturated16 = 0xFFFF;

// General purpose flags (4.4.4). Bit 3: sizes and CRC follow the payload in a data descriptor, as torch
// writes them. Bit 11: the name is UTF-8. Bits 0, 6 and 13 announce encryption of the payload or of the
// directory.
constexpr std::uint16_t kFlagDescriptor = 1u << 3;
constexpr std::uint16_t kFlagUtf8 = 1u << 11;
constexpr std::uint16_t kFlagsEncryption = (1u << 0) | (1u << 6) | (1u << 13);
constexpr std::uint16_t kFlagPatched = 1u << 5;

struct Directory {
  std::uint64_t offset_bytes = 0;
  std::uint64_t length_bytes = 0;
  std::uint64_t count = 0;
};

/// One entry of the central directory.
struct Entry {
  ZipMember member;
  std::uint16_t flags = 0;
};

/// The zip64 field (id 1, 4.5.3) among the extra fields, empty when there is none. Nothing when the fields
/// are damaged. A second zip64 field counts as damage, because readers differ in which one they take.
std::optional<Bytes> find_zip64_field(Bytes extra) {
  Bytes found;
  bool seen = false;
  while (!extra.empty()) {
    if (extra.size() < 4) return std::nullopt;
    const auto id = load_le<std::uint16_t>(extra, 0);
    const std::size_t length = load_le<std::uint16_t>(extra, 2);
    if (extra.size() - 4 < length || (id == 1 && seen)) return std::nullopt;
    if (id == 1) {
      found = extra.subspan(4, length);
      seen = true;
    }
    extra = extra.subspan(4 + length);
  }
  return found;
}

class ZipReader final {
 public:
  explicit ZipReader(const base::File& file)
      : file_(file), subject_(file.path().string()), file_bytes_(file.size_bytes()) {}

  [[nodiscard]] std::vector<ZipMember> read() {
    const Directory directory = find_directory();
    std::vector<Entry> entries = read_directory(directory);
    for (Entry& entry : entries) check_local_header(entry, directory);
    check_layout(entries, directory);
    return take_members(entries);
  }

  [[nodiscard]] std::vector<ZipMember> read_outline() {
    const Directory directory = find_directory();
    std::vector<Entry> entries = read_directory(directory);
    std::ranges::sort(entries, {}, [](const Entry& entry) { return entry.member.header_offset_bytes; });
    for (std::size_t i = 0; i < entries.size(); ++i) {
      const bool last = i + 1 == entries.size();
      place_payload(entries[i], last ? directory.offset_bytes : entries[i + 1].member.header_offset_bytes,
                    directory);
    }
    return take_members(entries);
  }

 private:
  [[nodiscard]] static std::vector<ZipMember> take_members(std::vector<Entry>& entries) {
    std::vector<ZipMember> members;
    members.reserve(entries.size());
    for (Entry& entry : entries) members.push_back(std::move(entry.member));
    return members;
  }

  [[noreturn]] void refuse(const std::string& cause) const { base::throw_malformed(subject_, cause); }

  [[noreturn]] void refuse(const ZipMember& member, const std::string& cause) const {
    refuse("zip member '" + base::to_printable(member.name) + "': " + cause);
  }

  [[nodiscard]] std::vector<std::byte> read_bytes(std::uint64_t offset_bytes,
                                                  std::uint64_t length_bytes) const {
    std::vector<std::byte> bytes(length_bytes);
    file_.read_exact_at(offset_bytes, bytes);
    return bytes;
  }

  /// Finds the directory from the end record in the last bytes of the file, and checks that nothing lies
  /// between them.
  [[nodiscard]] Directory find_directory() const {
    // A comment behind the end record would let two readers find two directories; torch writes none.
    const char* const kMissing =
        "has no zip directory at its end: the file is cut short, or something follows it";
    if (file_bytes_ < kEndBytes) refuse(kMissing);
    const std::uint64_t end_offset = file_bytes_ - kEndBytes;
    const auto end = read_bytes(end_offset, kEndBytes);
    if (load_le<std::uint32_t>(end, 0) != kEndSignature || load_le<std::uint16_t>(end, 20) != 0)
      refuse(kMissing);
    if (load_le<std::uint16_t>(end, 4) != 0 || load_le<std::uint16_t>(end, 6) != 0) {
      refuse("is one disk of a zip archive of several");
    }
    const std::uint64_t count_here = load_le<std::uint16_t>(end, 8);
    Directory directory{.offset_bytes = load_le<std::uint32_t>(end, 16),
                        .length_bytes = load_le<std::uint32_t>(end, 12),
                        .count = load_le<std::uint16_t>(end, 10)};
    // The two counts, of this disk and of all disks, are equal in an archive of one file.
    if (count_here != directory.count) refuse("zip end record: two counts of members differ");
    const std::uint64_t directory_end = read_end64(end_offset, directory);
    const auto stated_end = base::checked_add(directory.offset_bytes, directory.length_bytes);
    if (stated_end != directory_end) {
      refuse("zip directory of " + std::to_string(directory.length_bytes) + " bytes at " +
             std::to_string(directory.offset_bytes) + " does not end at byte " +
             std::to_string(directory_end) + ", where the end record begins");
    }
    if (directory.length_bytes > kDirectoryBytesMax) {
      refuse("zip directory has " + std::to_string(directory.length_bytes) + " bytes, more than " +
             std::to_string(kDirectoryBytesMax));
    }
    return directory;
  }

  /// Replaces saturated fields by those of the zip64 end record, if there is one. Returns the offset at which
  /// the end records begin. The record must stand directly before its locator: a locator that points
  /// elsewhere would leave room for a second directory.
  [[nodiscard]] std::uint64_t read_end64(std::uint64_t end_offset, Directory& directory) const {
    const bool saturated = directory.count == kSaturated16 || directory.length_bytes == kSaturated32 ||
                           directory.offset_bytes == kSaturated32;
    if (end_offset >= kLocator64Bytes + kEnd64Bytes) {
      const std::uint64_t locator_offset = end_offset - kLocator64Bytes;
      const auto locator = read_bytes(locator_offset, kLocator64Bytes);
      if (load_le<std::uint32_t>(locator, 0) == kLocator64Signature) {
        const std::uint64_t end64_offset = locator_offset - kEnd64Bytes;
        if (load_le<std::uint32_t>(locator, 4) != 0 || load_le<std::uint64_t>(locator, 8) != end64_offset ||
            load_le<std::uint32_t>(locator, 16) > 1) {
          refuse("zip64 end locator does not point at the record before it");
        }
        merge_end64(read_bytes(end64_offset, kEnd64Bytes), directory);
        return end64_offset;
      }
    }
    if (saturated) refuse("zip64 end record is missing");
    return end_offset;
  }

  /// Takes the values of the zip64 end record. Each field of the end record must either have the same value
  /// or be saturated: otherwise two readers could find two directories.
  void merge_end64(Bytes end64, Directory& directory) const {
    const Directory wide{.offset_bytes = load_le<std::uint64_t>(end64, 48),
                         .length_bytes = load_le<std::uint64_t>(end64, 40),
                         .count = load_le<std::uint64_t>(end64, 32)};
    const auto agrees = [](std::uint64_t narrow, std::uint64_t saturated, std::uint64_t full) {
      return narrow == full || narrow == saturated;
    };
    // The record's own length field excludes the signature and itself (12 bytes). Any other length means
    // extension fields, which torch does not write.
    const bool ok = load_le<std::uint32_t>(end64, 0) == kEnd64Signature &&
                    load_le<std::uint64_t>(end64, 4) == kEnd64Bytes - 12 &&
                    load_le<std::uint32_t>(end64, 16) == 0 && load_le<std::uint32_t>(end64, 20) == 0 &&
                    load_le<std::uint64_t>(end64, 24) == wide.count &&
                    agrees(directory.count, kSaturated16, wide.count) &&
                    agrees(directory.length_bytes, kSaturated32, wide.length_bytes) &&
                    agrees(directory.offset_bytes, kSaturated32, wide.offset_bytes);
    if (!ok) refuse("zip64 end record is damaged or contradicts the end record");
    directory = wide;
  }

  /// Reads all entries; they must fill the directory exactly, and no name may occur twice.
  [[nodiscard]] std::vector<Entry> read_directory(const Directory& directory) const {
    const auto bytes = read_bytes(directory.offset_bytes, directory.length_bytes);
    // Without this limit a count of 2^64 - 1 would be passed to reserve().
    if (directory.count > directory.length_bytes / kCentralBytes) {
      refuse("zip directory of " + std::to_string(directory.length_bytes) + " bytes cannot hold " +
             std::to_string(directory.count) + " members");
    }
    std::vector<Entry> entries;
    entries.reserve(directory.count);
    std::unordered_set<std::string_view> names;
    Bytes rest = bytes;
    for (std::uint64_t i = 0; i < directory.count; ++i) {
      entries.push_back(read_entry(rest, i));
      if (!names.insert(entries.back().member.name).second) refuse(entries.back().member, "occurs twice");
    }
    if (!rest.empty())
      refuse("zip directory has " + std::to_string(rest.size()) + " bytes behind its last entry");
    return entries;
  }

  /// Reads one entry and moves `rest` behind it.
  [[nodiscard]] Entry read_entry(Bytes& rest, std::uint64_t index) const {
    const auto damaged = [&] { refuse("zip directory entry " + std::to_string(index) + " is damaged"); };
    if (rest.size() < kCentralBytes || load_le<std::uint32_t>(rest, 0) != kCentralSignature) damaged();
    const std::size_t name_bytes = load_le<std::uint16_t>(rest, 28);
    const std::size_t extra_bytes = load_le<std::uint16_t>(rest, 30);
    const std::size_t comment_bytes = load_le<std::uint16_t>(rest, 32);
    const std::size_t entry_bytes = kCentralBytes + name_bytes + extra_bytes + comment_bytes;
    if (rest.size() < entry_bytes) damaged();
    Entry entry;
    entry.member.name = base::as_text(rest.subspan(kCentralBytes, name_bytes));
    if (name_bytes == 0 || name_bytes > kNameBytesMax || !base::is_utf8(entry.member.name)) {
      refuse("zip directory entry " + std::to_string(index) + " has no proper name");
    }
    entry.flags = load_le<std::uint16_t>(rest, 8);
    check_kind(entry, load_le<std::uint16_t>(rest, 10));
    entry.member.crc32 = load_le<std::uint32_t>(rest, 16);
    read_sizes(entry, rest, rest.subspan(kCentralBytes + name_bytes, extra_bytes));
    rest = rest.subspan(entry_bytes);
    return entry;
  }

  /// Refuses members that are encrypted, patched or compressed, and flag bits whose meaning is unknown.
  void check_kind(const Entry& entry, std::uint16_t method) const {
    if ((entry.flags & kFlagsEncryption) != 0) refuse(entry.member, "is encrypted");
    if ((entry.flags & kFlagPatched) != 0) refuse(entry.member, "is patch data");
    if ((entry.flags & ~(kFlagDescriptor | kFlagUtf8)) != 0) {
      refuse(entry.member, "has unknown flag bits (" + std::to_string(entry.flags) + ")");
    }
    if (method != 0) {
      refuse(entry.member, "is compressed (method " + std::to_string(method) + "), torch only stores");
    }
  }

  /// Sizes and offset of an entry, each from the zip64 field when its own field is saturated. The zip64 field
  /// contains only the saturated ones, in this fixed order (4.5.3), so the calls below must not be reordered.
  void read_sizes(Entry& entry, Bytes header, Bytes extra) const {
    const auto zip64 = find_zip64_field(extra);
    if (!zip64) refuse(entry.member, "has damaged extra fields");
    Bytes wide = *zip64;
    const auto widen = [&](std::uint32_t narrow) -> std::uint64_t {
      if (narrow != kSaturated32) return narrow;
      if (wide.size() < 8) refuse(entry.member, "lacks a zip64 field");
      const auto value = load_le<std::uint64_t>(wide, 0);
      wide = wide.subspan(8);
      return value;
    };
    entry.member.length_bytes = widen(load_le<std::uint32_t>(header, 24));
    const std::uint64_t packed_bytes = widen(load_le<std::uint32_t>(header, 20));
    entry.member.header_offset_bytes = widen(load_le<std::uint32_t>(header, 42));
    if (!wide.empty()) refuse(entry.member, "has more in its zip64 field than it needs");
    if (load_le<std::uint16_t>(header, 34) != 0) refuse(entry.member, "lies on another disk");
    // Method 0 stores the payload as it is, so both sizes are the same number.
    if (packed_bytes != entry.member.length_bytes) {
      refuse(entry.member, "is stored, but has two sizes: " + std::to_string(packed_bytes) + " and " +
                               std::to_string(entry.member.length_bytes));
    }
  }

  /// Checks the local header against the entry, and adds the place of the payload to the entry. Only the
  /// local header says how long its extra field is (torch's padding), so the payload's offset does not follow
  /// from the directory alone.
  void check_local_header(Entry& entry, const Directory& directory) const {
    ZipMember& member = entry.member;
    const auto name_offset =
        base::checked_add(entry.member.header_offset_bytes, kLocalBytes + member.name.size());
    if (!name_offset || *name_offset > directory.offset_bytes) refuse(member, "begins outside the file");
    const auto bytes = read_bytes(entry.member.header_offset_bytes, kLocalBytes + member.name.size());
    const Bytes header(bytes);
    if (load_le<std::uint32_t>(header, 0) != kLocalSignature) {
      refuse(member, "has no header at byte " + std::to_string(entry.member.header_offset_bytes));
    }
    if (load_le<std::uint16_t>(header, 26) != member.name.size() ||
        base::as_text(header.subspan(kLocalBytes)) != member.name) {
      refuse(member, "has another name in its own header");
    }
    if (load_le<std::uint16_t>(header, 6) != entry.flags) refuse(member, "has other flags in its own header");
    if (load_le<std::uint16_t>(header, 8) != 0) refuse(member, "has another method in its own header");
    const std::uint64_t extra_bytes = load_le<std::uint16_t>(header, 28);
    member.offset_bytes = *name_offset + extra_bytes;
    const auto end = base::checked_add(member.offset_bytes, member.length_bytes);
    if (!end || *end > directory.offset_bytes) {
      refuse(member, "has " + std::to_string(member.length_bytes) + " bytes at " +
                         std::to_string(member.offset_bytes) + ", but the zip directory begins at " +
                         std::to_string(directory.offset_bytes));
    }
    check_local_sizes(entry, header, read_bytes(*name_offset, extra_bytes));
    entry.member.end_offset_bytes = *end + descriptor_bytes(entry, *end, directory);
  }

  /// Finds the payload between this member's header and the next one's, which is at `end_offset`. The local
  /// header may be damaged, so its length of the extra field is only one of three hints, tried in the order
  /// of their reliability: a data descriptor that ends at `end_offset` and has its signature; the place that
  /// the local header gives, if that leaves no gap; a place on a multiple of 64 bytes, as torch aligns
  /// payloads.
  void place_payload(Entry& entry, std::uint64_t end_offset, const Directory& directory) const {
    ZipMember& member = entry.member;
    const std::uint64_t name_end = member.header_offset_bytes + kLocalBytes + member.name.size();
    if (member.header_offset_bytes > end_offset || end_offset > directory.offset_bytes ||
        name_end > end_offset || member.length_bytes > end_offset - name_end)
      refuse(member, "has no place between its neighbours");
    const std::uint64_t room_bytes = end_offset - name_end - member.length_bytes;
    const std::uint64_t extra_bytes =
        load_le<std::uint16_t>(read_bytes(member.header_offset_bytes, kLocalBytes), 28);

    // Each hint is asked for a width of the data descriptor: the payload ends `width` bytes before
    // `end_offset`.
    const auto is_described = [&](std::uint64_t width) {
      return width == 0 || load_le<std::uint32_t>(read_bytes(end_offset - width, 4)) == kDescriptorSignature;
    };
    const auto is_even = [&](std::uint64_t width) { return extra_bytes == room_bytes - width; };
    const auto is_aligned = [&](std::uint64_t width) {
      return (end_offset - width - member.length_bytes) % kTorchAlignmentBytes == 0;
    };
    // A descriptor ends at `end_offset`, so its width decides where its signature must stand. Both widths
    // occur with any size.
    std::vector<std::uint64_t> widths{0};
    if ((entry.flags & kFlagDescriptor) != 0) widths = {kDescriptor64Bytes, kDescriptorBytes};
    std::erase_if(widths, [&](std::uint64_t width) { return width > room_bytes; });
    auto width = std::ranges::find_if(widths, is_described);
    if (width == widths.end()) width = std::ranges::find_if(widths, is_even);
    if (width == widths.end()) width = std::ranges::find_if(widths, is_aligned);
    if (width == widths.end()) refuse(member, "has no place between its neighbours");
    member.offset_bytes = end_offset - *width - member.length_bytes;
    member.end_offset_bytes = end_offset;
  }

  /// Checks sizes and CRC of a local header against the entry of the directory.
  void check_local_sizes(const Entry& entry, Bytes header, Bytes extra) const {
    const auto zip64 = find_zip64_field(extra);
    if (!zip64) refuse(entry.member, "has damaged extra fields in its own header");
    Bytes wide = *zip64;
    // With a data descriptor the header may have zeros for the values that the descriptor has.
    const bool may_be_zero = (entry.flags & kFlagDescriptor) != 0;
    const auto agrees = [&](std::uint64_t found, std::uint64_t expected) {
      return found == expected || (may_be_zero && found == 0);
    };
    bool ok = agrees(load_le<std::uint32_t>(header, 14), entry.member.crc32);
    // Uncompressed size before compressed size: the order of the zip64 field.
    for (const std::size_t field : {std::size_t{22}, std::size_t{18}}) {
      std::uint64_t length_bytes = load_le<std::uint32_t>(header, field);
      if (length_bytes == kSaturated32 && wide.size() >= 8) {
        length_bytes = load_le<std::uint64_t>(wide, 0);
        wide = wide.subspan(8);
      }
      ok = ok && agrees(length_bytes, entry.member.length_bytes);
    }
    if (!ok) refuse(entry.member, "has other sizes or another CRC in its own header");
  }

  /// The length of the data descriptor at `offset_bytes`; 0 when the entry has none.
  /// The descriptor must repeat the directory's CRC and sizes; the width for which it does is the width it
  /// has.
  [[nodiscard]] std::uint64_t descriptor_bytes(const Entry& entry, std::uint64_t offset_bytes,
                                               const Directory& directory) const {
    if ((entry.flags & kFlagDescriptor) == 0) return 0;
    const std::uint64_t available = std::min(kDescriptor64Bytes, directory.offset_bytes - offset_bytes);
    const auto bytes = read_bytes(offset_bytes, available);
    const ZipMember& member = entry.member;
    if (available >= kDescriptorBytes && load_le<std::uint32_t>(bytes, 0) == kDescriptorSignature &&
        load_le<std::uint32_t>(bytes, 4) == member.crc32) {
      // Both widths occur with any size: miniz uses 64 bits when the *offset* needs them.
      if (available == kDescriptor64Bytes && load_le<std::uint64_t>(bytes, 8) == member.length_bytes &&
          load_le<std::uint64_t>(bytes, 16) == member.length_bytes) {
        return kDescriptor64Bytes;
      }
      if (load_le<std::uint32_t>(bytes, 8) == member.length_bytes &&
          load_le<std::uint32_t>(bytes, 12) == member.length_bytes) {
        return kDescriptorBytes;
      }
    }
    refuse(member, "has no data descriptor behind it that agrees with the zip directory");
  }

  /// Checks that members fill the file from its first byte to the directory: bytes that no entry names could
  /// be a member for a reader that walks the local headers.
  void check_layout(const std::vector<Entry>& entries, const Directory& directory) const {
    std::vector<const Entry*> order;
    order.reserve(entries.size());
    for (const Entry& entry : entries) order.push_back(&entry);
    std::ranges::sort(order, {}, [](const Entry* entry) { return entry->member.header_offset_bytes; });
    std::uint64_t expected = 0;
    for (const Entry* entry : order) {
      if (entry->member.header_offset_bytes < expected) refuse(entry->member, "overlaps the one before it");
      if (entry->member.header_offset_bytes > expected) {
        refuse(entry->member, "begins at byte " + std::to_string(entry->member.header_offset_bytes) +
                                  ", but the one before it ends at " + std::to_string(expected));
      }
      expected = entry->member.end_offset_bytes;
    }
    if (expected != directory.offset_bytes) {
      refuse("zip members end at byte " + std::to_string(expected) + ", but the zip directory begins at " +
             std::to_string(directory.offset_bytes));
    }
  }

  const base::File& file_;
  std::string subject_;
  std::uint64_t file_bytes_;
};

}  // namespace

std::vector<ZipMember> read_zip_index(const base::File& file) { return ZipReader(file).read(); }

std::vector<ZipMember> read_zip_outline(const base::File& file) { return ZipReader(file).read_outline(); }

std::vector<std::byte> read_zip_member(const base::File& file, const ZipMember& member,
                                       std::uint64_t bytes_max) {
  const std::string subject = file.path().string() + ": zip member '" + base::to_printable(member.name) + "'";
  if (member.length_bytes > bytes_max) {
    base::throw_malformed(subject, "has " + std::to_string(member.length_bytes) + " bytes, more than the " +
                                       std::to_string(bytes_max) + " that are read");
  }
  std::vector<std::byte> bytes(member.length_bytes);
  file.read_exact_at(member.offset_bytes, bytes);
  // torch writes a CRC of 0 when it is told not to compute one; 0 therefore says nothing.
  if (member.crc32 != 0 && base::crc32(bytes) != member.crc32) {
    base::throw_malformed(subject, "is damaged: its CRC-32 does not match");
  }
  return bytes;
}

}  // namespace sluice::format
