// Opens a container: header, footer, directory, in this order, each checked with what is known before it. The
// footer comes first among the checks of content, because everything that is known only after the payload
// stands at the end (docs/decisions/0001-footer.md). Opening reads none of the payload.
//
// A large directory is hashed on a second thread while the caller's parses it; everything else runs on the
// caller's thread.
//
// All tensors are views into one mapping of the file. Bytes of a mapped file that can no longer be read (the
// file was cut, its disk failed) read as zeros, and require_whole() reports them. After construction nothing
// changes, so any number of threads may read.

#include "format/container_reader.h"

#include <algorithm>
#include <array>
#include <future>
#include <utility>

#include "base/error.h"
#include "base/hasher.h"
#include "base/merkle.h"
#include "format/container_impl.h"

namespace sluice::format {
namespace {

void check_footer(const ContainerFooter& footer, std::uint64_t file_bytes, std::string_view subject) {
  if (footer.file_bytes != file_bytes) {
    base::throw_malformed(subject, "has " + std::to_string(file_bytes) + " bytes, its footer says " +
                                       std::to_string(footer.file_bytes));
  }
  if (!is_possible(footer)) base::throw_malformed(subject, "the footer's directory range is impossible");
}

// Hashing 16 MB takes as long as parsing them, so that the two are done at the same time where a directory is
// large. A directory with another digest is told as damaged, whatever else is wrong with its text.
ContainerDirectory read_directory(base::Bytes text, const ContainerFooter& footer, std::string_view subject) {
  constexpr std::size_t kLargeBytes = 1u << 20;
  // With both policies the digest is computed here after all where no thread can be started.
  const auto policy =
      text.size() < kLargeBytes ? std::launch::deferred : std::launch::async | std::launch::deferred;
  auto digest = std::async(policy, [text] { return base::hash<base::Sha256>(text); });
  const auto require_sound = [&] {
    if (digest.get() != footer.directory_sha256)
      base::throw_malformed(subject, "directory is damaged: its SHA-256 does not match");
  };
  const std::string place = std::string(subject) + ": directory";
  if (text.size() < kLargeBytes) {
    require_sound();
    return parse_directory(base::as_text(text), place);
  }
  try {
    auto directory = parse_directory(base::as_text(text), place);
    require_sound();
    return directory;
  } catch (const base::Error&) {
    if (digest.valid()) require_sound();
    throw;
  }
}

}  // namespace

// A digest proves that the footer is as it was written, not that an honest program wrote it; slices of the
// mapping are made from these numbers.
bool is_possible(const ContainerFooter& footer) {
  const auto end = base::checked_add(footer.directory_offset_bytes, footer.directory_length_bytes);
  return end && *end == footer.file_bytes - kContainerFooterBytes &&
         footer.directory_offset_bytes >= kContainerHeaderBytes &&
         footer.directory_length_bytes <= kDirectoryBytesMax;
}

base::Bytes directory_text(base::Bytes file, const ContainerFooter& footer) {
  return file.subspan(static_cast<std::size_t>(footer.directory_offset_bytes),
                      static_cast<std::size_t>(footer.directory_length_bytes));
}

ContainerReader::Impl::Impl(base::MappedFile file_in, const ContainerFooter& footer_in,
                            ContainerDirectory directory_in, const ContainerDigests& digests_in)
    : file(std::move(file_in)), footer(footer_in), directory(std::move(directory_in)), digests(digests_in) {}

// An index of its own, because `tensors` must stay in payload order.
const std::unordered_map<std::string_view, std::size_t>& ContainerReader::Impl::by_name() const {
  std::call_once(by_name_made_, [&] {
    by_name_.reserve(directory.tensors.size());
    for (std::size_t i = 0; i < directory.tensors.size(); ++i) by_name_.emplace(directory.tensors[i].name, i);
  });
  return by_name_;
}

ContainerReader::ContainerReader(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ContainerReader::~ContainerReader() = default;
ContainerReader::ContainerReader(ContainerReader&&) noexcept = default;

ContainerReader ContainerReader::open(const std::filesystem::path& path) {
  auto file = base::MappedFile::open_read(path);
  try {
    return open(file);
  } catch (const base::Error&) {
    // A file that was cut meanwhile looks damaged, and the cut is the error to tell.
    file.require_whole();
    throw;
  }
}

/// Takes the file only when nothing is wrong with it.
ContainerReader ContainerReader::open(base::MappedFile& file) {
  const std::string subject = file.path().string();
  const base::Bytes bytes = file.bytes();
  const std::uint32_t version = check_header(bytes, subject);
  if (bytes.size() < kContainerHeaderBytes + kContainerFooterBytes)
    base::throw_malformed(subject, "is cut off: it has only " + std::to_string(bytes.size()) + " bytes");
  const ContainerFooter footer = decode_footer(bytes.last(kContainerFooterBytes), subject);
  check_footer(footer, bytes.size(), subject);
  if (footer.version != version) {
    base::throw_malformed(subject, "is of version " + std::to_string(version) +
                                       " by its header and of version " + std::to_string(footer.version) +
                                       " by its footer");
  }
  auto directory = read_directory(directory_text(bytes, footer), footer, subject);
  const auto digests = check_directory(directory, footer, subject + ": directory");
  file.require_whole();
  return ContainerReader(std::make_unique<Impl>(std::move(file), footer, std::move(directory), digests));
}

const std::filesystem::path& ContainerReader::path() const { return impl_->file.path(); }
const base::FileIdentity& ContainerReader::identity() const { return impl_->file.identity(); }
const ModelDescription& ContainerReader::description() const { return impl_->directory.description; }
const std::vector<ContainerTensor>& ContainerReader::tensors() const { return impl_->directory.tensors; }
const std::vector<ContainerExpert>& ContainerReader::experts() const { return impl_->directory.experts; }
const std::vector<ContainerSection>& ContainerReader::sections() const { return impl_->directory.sections; }
const Json& ContainerReader::provenance() const { return impl_->directory.provenance; }
const Json& ContainerReader::recipe() const { return impl_->directory.recipe; }
const ContainerFooter& ContainerReader::footer() const { return impl_->footer; }
const base::Sha256& ContainerReader::root() const { return impl_->digests.root; }
const base::Sha256& ContainerReader::tensors_sha256() const { return impl_->digests.tensors; }
std::vector<RootPart> ContainerReader::root_parts() const { return format::root_parts(impl_->directory); }
base::Bytes ContainerReader::bytes() const { return impl_->file.bytes(); }

const ContainerTensor* ContainerReader::find(std::string_view name) const {
  const auto& by_name = impl_->by_name();
  const auto found = by_name.find(name);
  return found != by_name.end() ? &tensors()[found->second] : nullptr;
}

const ContainerSection* ContainerReader::find_section(std::string_view name) const {
  const auto found = std::ranges::find(sections(), name, &ContainerSection::name);
  return found != sections().end() ? &*found : nullptr;
}

base::Bytes ContainerReader::bytes(const ContainerTensor& tensor) const {
  return bytes().subspan(static_cast<std::size_t>(tensor.offset_bytes),
                         static_cast<std::size_t>(tensor.length_bytes));
}

base::Bytes ContainerReader::bytes(const ContainerSection& section) const {
  return bytes().subspan(static_cast<std::size_t>(section.offset_bytes),
                         static_cast<std::size_t>(section.length_bytes));
}

void ContainerReader::require_whole() const { impl_->file.require_whole(); }

bool ContainerReader::matches_digest(const ContainerTensor& tensor) const {
  return base::merkle_digest(bytes(tensor)) == tensor.digest;
}

bool ContainerReader::matches_digest(const ContainerSection& section) const {
  return base::hash<base::Sha256>(bytes(section)) == section.sha256;
}

// Either magic is enough, so that a container with a damaged header or a cut end is recognised and then
// refused with the right message, rather than taken for a file of another kind.
bool is_container(const std::filesystem::path& path) {
  const auto file = base::File::open_read(path);
  const std::uint64_t file_bytes = file.size_bytes();
  if (file_bytes < kContainerHeaderBytes) return false;
  std::array<std::byte, kContainerMagic.size()> magic{};
  std::array<std::byte, kContainerEndMagics[0].size()> end_magic{};
  file.read_exact_at(0, magic);
  file.read_exact_at(file_bytes - end_magic.size(), end_magic);
  return base::as_text(magic) == kContainerMagic ||
         std::ranges::find(kContainerEndMagics, base::as_text(end_magic)) != kContainerEndMagics.end();
}

}  // namespace sluice::format
