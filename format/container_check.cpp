// Finds out which bytes of header, directory or footer are wrong, for verify and repair.
//
// ContainerReader::open() stops at the first contradiction. This check goes on: the header has only one
// possible content, and the footer follows from the directory, so either can be damaged and the tensors can
// still be verified. The directory has no copy; when it is damaged, the check names its bytes, and the
// tensors cannot be found. Everything runs on the caller's thread.

#include "format/container_check.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "base/hasher.h"
#include "format/container_impl.h"

namespace sluice::format {
namespace {

/// The fault from the first to the last byte that differs. At least one must differ.
ContainerFault fault_between(std::string part, std::uint64_t offset_bytes, base::Bytes found,
                             base::Bytes expected) {
  std::size_t first = 0;
  while (found[first] == expected[first]) ++first;
  std::size_t last = found.size() - 1;
  while (found[last] == expected[last]) --last;
  return {std::move(part), offset_bytes + first, last - first + 1};
}

bool is_malformed(const base::Error& error) { return error.kind() == base::ErrorKind::malformed; }

}  // namespace

class ContainerChecker final {
 public:
  explicit ContainerChecker(const std::filesystem::path& path)
      : subject_(path.string()), file_(base::MappedFile::open_read(path)) {}

  /// Error{io} when the file was cut while it was checked. The reader has the file once there is one.
  void require_whole(const std::optional<ContainerCheck>& found) const {
    found && found->reader ? found->reader->require_whole() : file_.require_whole();
  }

  /// Nothing when the file must be refused as a whole.
  [[nodiscard]] std::optional<ContainerCheck> check() {
    const base::Bytes bytes = file_.bytes();
    if (bytes.size() < kContainerHeaderBytes + kContainerFooterBytes) return std::nullopt;
    ContainerCheck found;
    if (const auto footer = sound_footer()) {
      check_header_of(footer->version, found);
      if (try_directory(*footer, found)) return found;
      // A directory that is as it was written and yet contradicts itself is no damage, and open() says what
      // is wrong.
      if (base::hash<base::Sha256>(directory_text(bytes, *footer)) == footer->directory_sha256)
        return std::nullopt;
      found.faults.push_back({"directory", footer->directory_offset_bytes, footer->directory_length_bytes});
      return found;
    }
    if (!rebuild_footer(found)) return std::nullopt;
    return found;
  }

 private:
  void check_header_of(std::uint32_t version, ContainerCheck& found) const {
    const base::Bytes header = file_.bytes().first(kContainerHeaderBytes);
    const auto expected = encode_header(version);
    if (!std::ranges::equal(header, expected))
      found.faults.push_back(fault_between("header", 0, header, expected));
  }

  [[nodiscard]] base::Bytes footer_bytes() const { return file_.bytes().last(kContainerFooterBytes); }

  [[nodiscard]] std::optional<ContainerFooter> sound_footer() const {
    try {
      const ContainerFooter footer = decode_footer(footer_bytes(), subject_);
      if (footer.file_bytes != file_.bytes().size() || !is_possible(footer)) return std::nullopt;
      return footer;
    } catch (const base::Error& error) {
      if (!is_malformed(error)) throw;
      return std::nullopt;
    }
  }

  /// Makes the reader if the directory has the footer's digest and does not contradict itself.
  [[nodiscard]] bool try_directory(const ContainerFooter& footer, ContainerCheck& found) {
    const base::Bytes text = directory_text(file_.bytes(), footer);
    if (base::hash<base::Sha256>(text) != footer.directory_sha256) return false;
    try {
      auto directory = parse_directory(base::as_text(text), subject_);
      const auto digests = check_directory(directory, footer, subject_);
      found.reader.emplace(make_reader(footer, std::move(directory), digests));
      return true;
    } catch (const base::Error& error) {
      if (!is_malformed(error)) throw;
      return false;
    }
  }

  /// Searches the directory without the footer, page by page from the end, because a directory begins on a
  /// page and ends where the footer begins. A candidate must have the fixed beginning and be the exact text
  /// that to_text() writes for its content. Text inside of the directory cannot pass for it: a proper suffix
  /// of a JSON object has a closing brace too many.
  [[nodiscard]] bool rebuild_footer(ContainerCheck& found) {
    const base::Bytes bytes = file_.bytes();
    const std::uint64_t end = bytes.size() - kContainerFooterBytes;
    const std::uint64_t lowest =
        std::max(kContainerHeaderBytes, end > kDirectoryBytesMax ? end - kDirectoryBytesMax : 0);
    for (std::uint64_t at = end / kTensorAlignmentBytes * kTensorAlignmentBytes; at >= lowest;
         at -= kTensorAlignmentBytes) {
      const std::string_view text =
          base::as_text(bytes.subspan(static_cast<std::size_t>(at), static_cast<std::size_t>(end - at)));
      if (std::ranges::none_of(kDirectoryStarts,
                               [&](std::string_view start) { return text.starts_with(start); }))
        continue;
      ContainerFooter footer{
          at, end - at, bytes.size(), {}, base::hash<base::Sha256>(base::as_bytes(text)), kContainerVersion};
      try {
        auto directory = parse_directory(text, subject_);
        if (to_text(directory) != text) continue;  // the text is not a directory that ends at the footer
        footer.version = directory.version;
        footer.root = stored_root(digests_of(directory), footer.version);
        const auto digests = check_directory(directory, footer, subject_);
        check_header_of(footer.version, found);
        found.faults.push_back(fault_between("footer", end, footer_bytes(), encode_footer(footer)));
        found.reader.emplace(make_reader(footer, std::move(directory), digests));
        return true;
      } catch (const base::Error& error) {
        if (!is_malformed(error)) throw;
      }
    }
    return false;
  }

  [[nodiscard]] ContainerReader make_reader(const ContainerFooter& footer, ContainerDirectory directory,
                                            const ContainerDigests& digests) {
    return ContainerReader(
        std::make_unique<ContainerReader::Impl>(std::move(file_), footer, std::move(directory), digests));
  }

  std::string subject_;
  base::MappedFile file_;
};

ContainerCheck check_container(const std::filesystem::path& path) {
  ContainerChecker checker(path);
  auto found = checker.check();
  checker.require_whole(found);
  if (found) return std::move(*found);
  auto reader = ContainerReader::open(path);  // throws, with the best message
  return {{}, std::optional<ContainerReader>(std::move(reader))};
}

}  // namespace sluice::format
