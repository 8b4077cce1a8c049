#!/usr/bin/perl
# Compares the results of one of PostgreSQL's suites on heap and on lightning.
#
#	pg_compare.pl [--write] [--only] DIFFS HEAP LIGHTNING [test ...]
#
# HEAP and LIGHTNING are results directories of pg_regress.  The rows of a
# statement whose text asks for no order (no ORDER BY outside parentheses) are
# compared as a set; everything else as it stands.  What then still differs must
# be listed in DIFFS/<test>.diff, and everything listed there must differ, hunk
# by hunk:
#
#	# Why this is right (every hunk has its reason).
#	@ the statement, on one line
#	-lines of heap
#	+lines of lightning
#
# "# maybe: why" marks a difference that not every server has, and may be absent.
# A number in a listed line may be given as {n}: any number stands there.
#
# Without tests: every test that either directory has.  One line per test that
# differs and a last line "N passed, N failed".  --write lists what differs in
# DIFFS instead, keeping the reasons of hunks that were there.
use strict;
use warnings;
use File::Temp qw(tempdir);

my %opt;
while (@ARGV && $ARGV[0] =~ /^--(write|only)$/)
{
	$opt{$1} = 1;
	shift @ARGV;
}
my ($diffs, $heap, $light, @tests) = @ARGV;
die "usage: $0 [--write] DIFFS HEAP LIGHTNING [test ...]\n" unless defined $light;
my $tmp = tempdir(CLEANUP => 1);

if (!@tests)
{
	my %seen;
	$seen{$_}++ for map { m{([^/]+)\.out$} } glob("$heap/*.out"), glob("$light/*.out");
	@tests = sort keys %seen;
}

# ---- reading a result file ----

# SQL text without comments, the content of strings and of parentheses.
sub skeleton
{
	my ($text) = @_;
	my ($out, $depth) = ('', 0);
	pos($text) = 0;
	while (pos($text) < length $text)
	{
		if ($text =~ /\G--[^\n]*/gc) { next; }
		elsif ($text =~ m{\G/\*.*?(?:\*/|\z)}gcs) { next; }
		elsif ($text =~ /\G(?<![A-Za-z0-9_])[eE]'(?:[^'\\]|''|\\.)*(?:'|\z)/gcs) { $out .= "''" if !$depth; }
		elsif ($text =~ /\G'(?:[^']|'')*(?:'|\z)/gcs) { $out .= "''" if !$depth; }
		elsif ($text =~ /\G"(?:[^"]|"")*(?:"|\z)/gcs) { $out .= '"x"' if !$depth; }
		elsif ($text =~ /\G(\$[A-Za-z_]*\$).*?(?:\1|\z)/gcs) { $out .= "''" if !$depth; }
		elsif ($text =~ /\G\(/gc) { $out .= '(' if !$depth++; }
		elsif ($text =~ /\G\)/gc) { $depth-- if $depth; $out .= ')' if !$depth; }
		elsif ($text =~ /\G;/gc) { $depth = 0; $out .= ';'; }
		elsif ($text =~ /\G([A-Za-z0-9_]+|.)/gcs) { $out .= $1 if !$depth; }
	}
	return $out;
}

my $message = qr/^(?:psql:\S+ |\w+: )?(?:NOTICE|WARNING|INFO|DEBUG\d?|LOG|ERROR|FATAL|DETAIL|HINT|CONTEXT|QUERY|LINE \d+|LOCATION):/;

# The statement whose result follows the text.
sub last_statement
{
	my ($text) = @_;
	my @lines = grep { !/$message/ && !/^\s+\^$/ } split /\n/, $text;
	# a line of psql's own ends what was before it
	for my $i (reverse 0 .. $#lines)
	{
		next unless $lines[$i] =~ /^\\/;
		return $lines[$i] unless grep { /\S/ && !/^--/ } @lines[ $i + 1 .. $#lines ];
		splice @lines, 0, $i + 1;
		last;
	}
	my $s = join "\n", @lines;
	my @parts = grep { /\S/ } split /;/, skeleton($s);
	return '' unless @parts;
	my $last = $parts[-1];
	$last =~ s/\s+/ /g;
	$last =~ s/^ //;
	return $last;
}

sub unordered
{
	my ($statement) = @_;
	return 0 if $statement =~ /^\\/ || $statement =~ /\\(?!g)/;
	return 0 if $statement =~ /\border by\b/i;
	return $statement =~ /^\(*\s*(?:select|with|table|values|insert|update|delete|merge|execute)\b/i
	  || $statement =~ /^\(\)/;
}

# Rows of a table; a cell with a line break goes on in the next line.
sub records
{
	my @records;
	my $more = 0;
	for my $line (@_)
	{
		if ($more) { $records[-1] .= "\n$line"; }
		else { push @records, $line; }
		$more = $line =~ /\+(?:\||$)/;
	}
	return @records;
}

sub squeeze
{
	my ($line) = @_;
	$line =~ s/^ +//;
	$line =~ s/ *\|/|/g;
	$line =~ s/\| */|/g;
	$line =~ s/ +$//;
	return $line;
}

sub squash
{
	my ($s) = @_;
	$s =~ s/\s+/ /g;
	$s =~ s/^ | $//g;
	return $s;
}

# The shown name of the statement at hand: its text on one line.
sub title
{
	my ($text) = @_;
	my @lines = grep { !/$message/ && !/^\s+\^$/ && !/^--/ && /\S/ } split /\n/, $text;
	my @keep;
	for my $line (reverse @lines)
	{
		last if @keep && $line =~ /^\\|(?:;|\\g\w*)\s*(?:--.*)?$/;
		unshift @keep, $line;
		last if $line =~ /^(?:step |starting permutation|\\)/;
	}
	my $title = squash(join ' ', @keep);
	return $title =~ /^\$\w*\$/ ? last_statement($text) : $title;
}

# Is it a table's header that stands over the dashes?  SQL may stand over a
# comment line.
sub is_header
{
	my ($line, $dashes, $next, $isolation) = @_;
	return 1 if $isolation;
	return $next =~ /^\(\d+ rows?\)$/ && $line =~ /^ *$/ if $dashes eq '--';
	return $line =~ /^ /;
}

# A result file as lines in which unordered rows are sorted and (if asked for)
# padding is left out, for each the number of its statement, and their titles.
sub load
{
	my ($file, $squeeze) = @_;
	open(my $f, '<:raw', $file) or return;
	my @in = map { s/\r?\n?$//r } <$f>;
	close $f;
	my (@out, @of, @titles, %waiting);
	my $text = '';
	my $title = '';
	# what follows belongs to the next statement
	my $add = sub {
		my ($new, @lines) = @_;
		push @titles, $new if !@titles || $titles[-1] ne $new;
		push @out, @lines;
		push @of, ($#titles) x @lines;
	};
	my $isolation = @in && $in[0] =~ /^Parsed test spec/;
	for (my $i = 0; $i < @in; $i++)
	{
		my $line = $in[$i];
		if ($i + 1 < @in && $in[ $i + 1 ] =~ /^-+(?:\+-+)*$/ && is_header($line, $in[ $i + 1 ], $in[ $i + 2 ] // '', $isolation))
		{
			my $end = $i + 2;
			$end++ while $end < @in && $in[$end] !~ /^\(\d+ rows?\)$/;
			if ($end < @in)
			{
				my @rows = @in[ $i + 2 .. $end - 1 ];
				my $source = $text;
				$source = $waiting{$1} // $text
				  if $text =~ /^step (\w+): <\.\.\. completed>\s*\z/m;
				$source =~ s/^.*^step \w+: //ms;
				@rows = records(@rows);
				@rows = sort @rows
				  if $line !~ /QUERY PLAN|explain/i && unordered(last_statement($source));
				@rows = map { split /\n/, $_, -1 } @rows;
				my @table = ($line, $in[ $i + 1 ], @rows, $in[$end]);
				if ($squeeze)
				{
					@table = map { squeeze($_) } @table;
					$table[1] =~ s/-+/-/g;
				}
				$title = title($text) || $title;
				$add->($title, @table);
				push @titles, '';
				$i = $end;
				$text = '';
				next;
			}
		}
		$text .= "$line\n";
		if ($line =~ /<waiting \.\.\.>$/ && $text =~ /^(step (\w+):.*)\z/ms)
		{
			my ($step, $name) = ($1, $2);
			$step = $1 while $step =~ /\n(step (\w+):.*)\z/s && ($name = $2);
			$step =~ s/^step \w+: //;
			$step =~ s/<waiting \.\.\.>\n$//;
			$waiting{$name} = $step;
		}
		my $t = title($text);
		$title = $t if $t ne '' && $line !~ /$message/;
		$add->($title, $line);
	}
	return (\@out, \@of, \@titles);
}

sub spew
{
	my ($file, @lines) = @_;
	open(my $f, '>:raw', $file) or die "cannot write $file: $!";
	print $f map { "$_\n" } @lines;
	close $f;
	return;
}

# ---- differences ----

# One hunk for all that differs in one statement's result.
sub hunks_of
{
	my ($a, $of, $titles, $b) = @_;
	spew("$tmp/a", @$a);
	spew("$tmp/b", @$b);
	my @hunks;
	open(my $d, '-|', 'diff', '-a', '-U0', "$tmp/a", "$tmp/b") or die "cannot run diff: $!";
	while (my $line = <$d>)
	{
		chomp $line;
		next if $line =~ /^(?:---|\+\+\+) \Q$tmp\E/;
		if ($line =~ /^@@ -(\d+)/)
		{
			my $statement = $of->[ $1 ? $1 - 1 : 0 ];
			next if @hunks && $hunks[-1]{statement} == $statement;
			push @hunks, { statement => $statement, title => $titles->[$statement], lines => [] };
		}
		elsif ($line =~ /^[-+]/) { push @{ $hunks[-1]{lines} }, $line; }
	}
	close $d;
	return @hunks;
}

sub differences
{
	my ($test) = @_;
	my @a = load("$heap/$test.out", 1);
	my @b = load("$light/$test.out", 1);
	return "no result on heap" unless @a;
	return "no result on lightning" unless @b;
	my @hunks = hunks_of(@a, $b[0]);
	if (!@hunks)
	{
		# nothing but padding may differ then, and only because other rows do
		@a = load("$heap/$test.out", 0);
		@b = load("$light/$test.out", 0);
		@hunks = hunks_of(@a, $b[0]);
	}
	return (undef, @hunks);
}

# ---- the lists ----

sub read_list
{
	my ($file) = @_;
	my @list;
	open(my $f, '<:raw', $file) or return;
	my $why = '';
	while (my $line = <$f>)
	{
		chomp $line;
		if ($line =~ /^#\s*(.*)/) { $why .= ($why eq '' ? '' : ' ') . $1; }
		elsif ($line =~ /^@ ?(.*)/)
		{
			push @list, { why => $why, title => $1, lines => [] };
			$why = '';
		}
		elsif ($line =~ /^[-+]/ && @list) { push @{ $list[-1]{lines} }, $line; }
		elsif ($line ne '') { die "$file: line $. is neither reason, statement nor difference\n"; }
	}
	close $f;
	for (@list)
	{
		die "$file: a difference without a reason: $_->{title}\n" if $_->{why} eq '' && !$opt{write};
	}
	return @list;
}

sub same
{
	my ($listed, $hunk) = @_;
	return 0 unless $listed->{title} eq $hunk->{title} && @{ $listed->{lines} } == @{ $hunk->{lines} };
	for my $i (0 .. $#{ $hunk->{lines} })
	{
		my $pattern = join '\d+', map { quotemeta } split /\{n\}/, $listed->{lines}[$i], -1;
		return 0 unless $hunk->{lines}[$i] =~ /^$pattern$/;
	}
	return 1;
}

sub show
{
	my ($what, $hunk) = @_;
	print "    $what: $hunk->{title}\n";
	my @lines = @{ $hunk->{lines} };
	my $more = @lines > 40 ? @lines - 40 : 0;
	print "      $_\n" for @lines[ 0 .. $#lines - $more ];
	print "      ... and $more lines more\n" if $more;
	return;
}

my ($passed, $failed) = (0, 0);
for my $test (@tests)
{
	my ($error, @hunks) = differences($test);
	my @list = read_list("$diffs/$test.diff");

	if ($error)
	{
		print "$test: $error\n";
		$failed++;
		next;
	}
	my (@new, @kept, %used);
	for my $hunk (@hunks)
	{
		my ($i) = grep { !$used{$_} && same($list[$_], $hunk) } 0 .. $#list;
		if (defined $i)
		{
			$used{$i} = 1;
			push @kept, $list[$i];
		}
		else
		{
			push @new, $hunk;
			push @kept, { why => '', %$hunk };
		}
	}
	my @gone = grep { !$used{$_} && $list[$_]{why} !~ /^maybe:/ } 0 .. $#list;
	if ($opt{write})
	{
		push @kept, map { $list[$_] } grep { !$used{$_} && $list[$_]{why} =~ /^maybe:/ } 0 .. $#list;
		unlink "$diffs/$test.diff";
		spew("$diffs/$test.diff", map { ("# $_->{why}", "@ $_->{title}", @{ $_->{lines} }, '') } @kept)
		  if @kept;
		print "$test: " . scalar(@new) . " new, " . scalar(@gone) . " gone\n" if @new || @gone;
		next;
	}
	if (@new || @gone)
	{
		print "$test: " . scalar(@new) . " new differences, " . scalar(@gone) . " listed ones absent\n";
		show('new', $_) for @new;
		show('absent', $list[$_]) for @gone;
		$failed++;
	}
	else { $passed++; }
}
print "$passed passed, $failed failed\n" unless $opt{write};
exit($failed ? 1 : 0);
