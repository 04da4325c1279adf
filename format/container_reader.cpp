#include "format/container_reader.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "base/hasher.h"
#include "base/merkle.h"
#include "format/container_directory.h"

namespace sluice::format {

struct ContainerReader::Impl {
  base::MappedFile file;
  ContainerFooter footer;
  ContainerDirectory directory;
  std::vector<std::size_t> by_name;  // indices of directory.tensors, sorted by name
};

ContainerReader::ContainerReader(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ContainerReader::~ContainerReader() = default;
ContainerReader::ContainerReader(ContainerReader&&) noexcept = default;

ContainerReader ContainerReader::open(const std::filesystem::path& path) {
  const std::string subject = path.string();
  auto impl = std::make_unique<Impl>(Impl{base::MappedFile::open_read(path), {}, {}, {}});
  const base::Bytes bytes = impl->file.bytes();
  check_header(bytes, subject);
  if (bytes.size() < kContainerHeaderBytes + kContainerFooterBytes)
    base::throw_malformed(subject, "is cut off: it has only " + std::to_string(bytes.size()) + " bytes");

  impl->footer = decode_footer(bytes.last(kContainerFooterBytes), subject);
  const ContainerFooter& footer = impl->footer;
  if (footer.file_bytes != bytes.size()) {
    base::throw_malformed(subject, "has " + std::to_string(bytes.size()) + " bytes, its footer says " +
                                       std::to_string(footer.file_bytes));
  }
  const auto end = base::checked_add(footer.directory_offset_bytes, footer.directory_length_bytes);
  if (!end || *end != bytes.size() - kContainerFooterBytes ||
      footer.directory_offset_bytes < kContainerHeaderBytes ||
      footer.directory_length_bytes > kDirectoryBytesMax)
    base::throw_malformed(subject, "the footer's directory range is impossible");
  const base::Bytes text = bytes.subspan(static_cast<std::size_t>(footer.directory_offset_bytes),
                                         static_cast<std::size_t>(footer.directory_length_bytes));
  if (base::hash<base::Sha256>(text) != footer.directory_sha256)
    base::throw_malformed(subject, "directory is damaged: its SHA-256 does not match");

  impl->directory = parse_directory(base::as_text(text), subject + ": directory");
  check_directory(impl->directory, footer.directory_offset_bytes, footer.root, subject + ": directory");
  for (std::size_t i = 0; i < impl->directory.tensors.size(); ++i) impl->by_name.push_back(i);
  std::ranges::sort(impl->by_name, {},
                    [&](std::size_t i) -> std::string_view { return impl->directory.tensors[i].name; });
  return ContainerReader(std::move(impl));
}

const std::filesystem::path& ContainerReader::path() const { return impl_->file.path(); }
const ModelParams& ContainerReader::params() const { return impl_->directory.params; }
const std::vector<ContainerTensor>& ContainerReader::tensors() const { return impl_->directory.tensors; }
const std::vector<ContainerExpert>& ContainerReader::experts() const { return impl_->directory.experts; }
const std::vector<ContainerSection>& ContainerReader::sections() const { return impl_->directory.sections; }
const Json& ContainerReader::provenance() const { return impl_->directory.provenance; }
const Json& ContainerReader::recipe() const { return impl_->directory.recipe; }
const ContainerFooter& ContainerReader::footer() const { return impl_->footer; }
base::Bytes ContainerReader::bytes() const { return impl_->file.bytes(); }

const ContainerTensor* ContainerReader::find(std::string_view name) const {
  const auto name_of = [&](std::size_t i) -> std::string_view { return tensors()[i].name; };
  const auto found = std::ranges::lower_bound(impl_->by_name, name, {}, name_of);
  return found != impl_->by_name.end() && name_of(*found) == name ? &tensors()[*found] : nullptr;
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

bool ContainerReader::proves(const ContainerTensor& tensor) const {
  return base::merkle_digest(bytes(tensor)) == tensor.digest;
}

bool ContainerReader::proves(const ContainerSection& section) const {
  return base::hash<base::Sha256>(bytes(section)) == section.sha256;
}

bool is_container(const std::filesystem::path& path) {
  const auto file = base::File::open_read(path);
  std::array<std::byte, kContainerMagic.size()> magic{};
  return file.read_at(0, magic) == magic.size() && base::as_text(magic) == kContainerMagic;
}

}  // namespace sluice::format
